"""Rated images: from the tables people have to batches of both loaders."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import csv
import io
import logging
import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from configs import rated_images as config_file
from rahf.datasets.files import parquet
from rahf.datasets.rated_images import Rating, make_records
from rahf.images import ImageError
from rahf.input import loader as data_input
from tests.input.loader_test import assert_equal, assert_resumes

MAPPING = "mos:1-5->overall, dmos:100-0->plausibility"
HEADER = ["image", "prompt", "mos", "dmos", "part"]


def _jpeg(value, size=(40, 30)):
    buffer = io.BytesIO()
    Image.new("RGB", size, (value,) * 3).save(buffer, "JPEG")
    return buffer.getvalue()


def _rows():
    """24 images of 8 prompts; each fourth lacks a score."""
    for i in range(24):
        mos = "" if i % 4 == 3 else str(1 + i % 5)
        part = "test" if i % 8 == 0 else "val" if i % 8 == 1 else "train"
        yield [f"images/{i}.jpg", f"a cat, number {i % 8}", mos, str(4 * i), part]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rated")
    (folder / "images").mkdir()
    for i in range(24):
        (folder / "images" / f"{i}.jpg").write_bytes(_jpeg(10 * i))
    with (folder / "ratings.csv").open("w", newline="") as file:
        csv.writer(file).writerows([HEADER, *_rows()])
    return folder


def _options(path, **options):
    rated = {"path": str(path), "targets": MAPPING, **options}
    return {"image_size": 16, "rated_images": rated}


def _all(path, **options):
    """Records of all splits by uid."""
    found = [
        {
            record["uid"]: record
            for record in make_records(split, _options(path, **options))
        }
        for split in ("train", "dev", "test")
    ]
    assert sum(map(len, found)) == len(found[0] | found[1] | found[2])
    return found


def test_a_csv_gives_records_with_scores_in_the_unit_interval(folder):
    train, dev, test = _all(folder / "ratings.csv")
    everything = train | dev | test
    assert len(everything) == 24
    prompts = [{r["prompt"] for r in side.values()} for side in (train, dev, test)]
    assert list(map(len, prompts)) == [6, 1, 1]  # no prompt on two sides
    assert len(set.union(*prompts)) == 8
    record = everything["images/6.jpg"]
    assert record["overall_score"] == 0.25  # 2 on a scale of 1 to 5
    assert record["artifact_score"] == pytest.approx(0.76)  # 24, and 0 is best
    assert record["image"].shape == (16, 16, 3)
    assert abs(int(record["image"].mean()) - 60) <= 2
    assert "overall_score" not in everything["images/7.jpg"]  # missing, not zero
    assert "artifact_score" in everything["images/7.jpg"]


def test_official_splits(folder):
    train, dev, test = _all(folder / "ratings.csv", split="part")
    assert {r["prompt"] for r in test.values()} == {"a cat, number 0"}
    assert {r["prompt"] for r in dev.values()} == {"a cat, number 1"}
    assert len(train) == 18


def test_folds_test_every_image_once(folder):
    tested = [_all(folder / "ratings.csv", folds=4, fold=i)[2] for i in range(4)]
    assert sorted(uid for side in tested for uid in side) == sorted(
        row[0] for row in _rows()
    )


@pytest.fixture(scope="module")
def shards(folder, tmp_path_factory):
    """The same as Parquet: encoded images, two files, small row groups."""
    made = tmp_path_factory.mktemp("shards")
    rows = list(_rows())
    table = pa.table(
        {
            "image": [{"bytes": _jpeg(10 * i), "path": None} for i in range(24)],
            "prompt": [row[1] for row in rows],
            "mos": [float(row[2]) if row[2] else None for row in rows],
            "dmos": [float(row[3]) for row in rows],
        }
    )
    pq.write_table(
        table.slice(0, 16), made / "train-00000-of-1.parquet", row_group_size=5
    )
    pq.write_table(table.slice(16), made / "test-00000-of-1.parquet", row_group_size=5)
    return made


def test_parquet_with_bytes_equals_the_csv_with_paths(folder, shards):
    found = []
    for path in (shards, folder / "ratings.csv"):
        records = [record for side in _all(path) for record in side.values()]
        for record in records:
            assert record.pop("uid")
        found.append(sorted(records, key=lambda record: record["artifact_score"]))
    assert len(found[0]) == 24
    for one, other in zip(*found, strict=True):
        assert_equal(
            {k: v for k, v in one.items() if k != "prompt"},
            {k: v for k, v in other.items() if k != "prompt"},
        )
        assert one["prompt"] == other["prompt"]


def test_the_split_of_a_file_is_its_name(shards):
    train, dev, test = _all(shards, split="<file>", dev_share=0.0)
    assert (len(train), len(dev), len(test)) == (16, 0, 8)
    assert "train-00000-of-1.parquet:0" in train


def test_cells_in_any_order_within_bounded_memory(shards, monkeypatch):
    monkeypatch.setattr(parquet, "CACHE_BYTES", 3000)
    cells = parquet.Cells(parquet.find_shards(shards), "dmos")
    order = np.random.default_rng(0).permutation(24)
    expected = [4.0 * i for i in (*range(16, 24), *range(16))]  # test- before train-
    assert [cells[int(i)] for i in order] == [expected[i] for i in order]
    again = pickle.loads(pickle.dumps(cells))  # as a worker process gets them
    assert again[23] == expected[23] and len(again) == 24
    pictures = parquet.Cells(parquet.find_shards(shards), "image")
    size = len(pictures[0]["bytes"])
    for i in order:
        assert len(pictures[int(i)]["bytes"]) > 0
        # One row group of five pictures is always held, and no second beyond the limit.
        assert pictures._held() <= max(3000, 5 * size + 500)


def test_a_table_without_prompts(folder):
    for record in make_records("train", _options(folder / "ratings.csv", prompt="")):
        assert record["prompt"] == ""


def _table(tmp_path, *rows, header=HEADER, name="t.csv"):
    path = tmp_path / name
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


GOOD = ["images/0.jpg", "a cat", "3", "50", "train"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {2: "6"},
            "t.csv, line 3, column 'mos': expected a number from 1 to 5, got '6'",
        ),
        ({2: "three"}, "line 3, column 'mos': expected a number, got 'three'"),
        ({2: "inf"}, "line 3, column 'mos': .* got 'inf'"),
        ({4: "holdout"}, "line 3, column 'part': expected one of train, .*'holdout'"),
    ],
)
def test_bad_cells_are_named(tmp_path, change, message):
    bad = [change.get(i, cell) for i, cell in enumerate(GOOD)]
    path = _table(tmp_path, GOOD, bad)
    with pytest.raises(ValueError, match=message):
        make_records("train", _options(path, split="part"))


def test_bad_tables_are_named(tmp_path):
    with pytest.raises(ValueError, match="no such file"):
        make_records("train", _options(tmp_path / "none.csv"))
    with pytest.raises(ValueError, match=r"expected a \.csv"):
        make_records("train", _options(_table(tmp_path, GOOD, name="t.xlsx")))
    for rows, header, message in (
        ([GOOD, GOOD[:3]], HEADER, "line 3: expected 5 cells .* got 3; quote"),
        ([GOOD], ["image", "prompt", "a", "b", "c"], "no column 'mos', 'dmos'; it has"),
        ([GOOD], [*HEADER[:4], "mos"], "'mos' stands there twice"),
        ([], HEADER, "holds no rows"),
        ([["a", "b", "", "nan", ""]], HEADER, "no row holds a number"),
    ):
        path = _table(tmp_path, *rows, header=header)
        with pytest.raises(ValueError, match=message):
            make_records("train", _options(path))
    (tmp_path / "latin.csv").write_bytes(b"image,prompt,mos,dmos\n\xe9,a,1,1\n")
    with pytest.raises(ValueError, match="expected UTF-8"):
        make_records("train", _options(tmp_path / "latin.csv"))
    (tmp_path / "quote.csv").write_text('image,prompt,mos,dmos\na,"b"c,1,1\n')
    with pytest.raises(ValueError, match="line 2: not a row"):
        make_records("train", _options(tmp_path / "quote.csv"))


def test_bad_parquet_is_named(tmp_path, shards):
    pointer = tmp_path / "p.parquet"
    pointer.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(ValueError, match="git lfs pull"):
        make_records("train", _options(pointer))
    data = bytearray((shards / "test-00000-of-1.parquet").read_bytes())
    pointer.write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match="not a Parquet file"):
        make_records("train", _options(pointer))
    with pytest.raises(ValueError, match="no column 'quality'; it has image, prompt"):
        make_records("train", _options(shards, targets="quality:0-1->overall"))


def test_bad_images_are_named(tmp_path):
    groups = [[f"{i}.jpg", f"prompt {i}", "3", "50", ""] for i in range(10)]
    path = _table(tmp_path, *groups)
    records = make_records("train", _options(path))
    with pytest.raises(
        ImageError, match=r"t\.csv, line \d+, column 'image'.*nothing of"
    ):
        records[0]
    path = _table(tmp_path, *[["", *row[1:]] for row in groups])
    with pytest.raises(ImageError, match="a path or encoded bytes, got None"):
        make_records("train", _options(path))[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": ""}, "path is empty; set it"),
        ({"targets": ""}, "targets is empty; set it, for example to mos_quality:1-5"),
        ({"targets": "mos->overall"}, "expected column:worst-best->target"),
        ({"targets": "mos:1-5->implausibility"}, "'implausibility' is a heatmap"),
        ({"targets": "mos:1-5->mood"}, "unknown target 'mood'"),
        ({"targets": "mos:5-5->overall"}, "has no width"),
        (
            {"targets": "mos:1-5->overall,dmos:0-1->overall"},
            "two columns for 'overall'",
        ),
        ({"targets": "mos:1-5->alignment"}, "asks for overall, but .* alignment only"),
        ({"colunm": "x"}, "has no colunm; it has .*split"),
        ({"split": "part", "folds": 4}, "choose either split"),
        ({"split": "part", "group": "dmos"}, None),
        ({"split": "part", "group": "mos"}, "cut 5 groups apart, such as '1'"),
    ],
)
def test_options_that_make_no_sense(folder, options, message):
    given = _options(folder / "ratings.csv") | {}
    given["rated_images"] |= options
    if message is None:
        assert make_records("train", given, wanted=("overall",))
        return
    with pytest.raises(ValueError, match=message):
        make_records("train", given, wanted=("overall",))


def test_scales():
    assert Rating.parse("a:b:-2.5-.5->overall") == Rating("a:b", -2.5, 0.5, "overall")
    rating = Rating.parse("x:-3--1->overall")
    assert (rating.score(-3, ""), rating.score("-1", "")) == (0, 1)
    assert rating.score(-1 + 1e-9, "") == 1  # a mean's rounding error
    assert all(np.isnan(rating.score(cell, "")) for cell in (None, " ", "N/A", np.nan))


def _config(folder, loader="grain", task="rated_images_multihead", **options):
    config = config_file.get_config(MAPPING)
    config.input.rated_images.path = str(folder / "ratings.csv")
    config.input.rated_images.update(options)
    config.input.update(loader=loader, batch_size=6, image_size=16)
    config.task.name = task
    return config


def test_the_config_learns_what_the_mapping_names():
    config = config_file.get_config(MAPPING)
    assert config.task.targets == ("overall", "plausibility")
    assert config.checkpoint.best_metric == "overall/srcc"
    assert config_file.get_config().task.targets == config_file.SCORES


def test_both_loaders_give_the_same_masked_batches(folder):
    found = []
    for loader in ("grain", "seqio"):
        config = _config(folder, loader)
        batches = data_input.make_eval_batches(
            config, split="train", targets=("overall",)
        )
        assert len(batches) == 3
        found.append(list(batches))
    for (batch, infos), (other, other_infos) in zip(*found, strict=True):
        assert_equal(batch, other)
        assert infos == other_infos
    known = {row[0]: row[2] for row in _rows()}
    for batch, infos in found[0]:
        for row, info in enumerate(infos):
            mos, weight = known[info["uid"]], batch["weights"]["overall"][row]
            assert weight == bool(mos)
            expected = (float(mos) - 1) / 4 if mos else 0
            assert batch["targets"]["overall"][row] == pytest.approx(expected)
            assert batch["weights"]["plausibility"][row] == 1


@pytest.mark.parametrize("loader", ["grain", "seqio"])
def test_training_resumes_exactly_on_one_target(folder, loader):
    config = _config(folder, loader, task="rated_images_overall")
    config.model.variant = "augmented"
    whole = assert_resumes(config, 2, 3)
    assert not any(batch["weights"]["plausibility"].any() for batch in whole)


def test_rows_without_any_rating_are_counted(tmp_path, caplog):
    rows = [[f"{i}.jpg", f"p {i}", "3" if i else "", "", ""] for i in range(10)]
    with caplog.at_level(logging.WARNING, "absl"):
        make_records("train", _options(_table(tmp_path, *rows)))
    assert "1 of 10 rows hold no rating" in caplog.text
