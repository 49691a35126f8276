"""Rated images: from the tables people have to batches of both loaders."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import logging
import pickle
import tracemalloc

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from configs import rated_images as config_file
from rahf.datasets.files import parquet
from rahf.datasets.rated_images import Rating, make_records
from rahf.images import ImageError
from rahf.input import loader as data_input
from rahf.input import registry
from tests.input.loader_test import assert_equal, assert_resumes
from tests.support import rated_tables
from tests.support.rated_tables import (
    HEADER,
    MAPPING,
    all_records,
    jpeg,
    options_of,
    rows_of,
    write_table,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return rated_tables.write_folder(tmp_path_factory.mktemp("rated"))


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return rated_tables.write_shards(tmp_path_factory.mktemp("shards"))


def test_a_csv_gives_records_with_scores_in_the_unit_interval(folder):
    train, dev, test = all_records(folder / "ratings.csv")
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


def test_parquet_with_bytes_equals_the_csv_with_paths(folder, shards):
    found = []
    for path in (shards, folder / "ratings.csv"):
        records = [record for side in all_records(path) for record in side.values()]
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


def test_a_row_group_that_is_too_large_is_refused_before_it_is_read(
    shards, monkeypatch
):
    monkeypatch.setattr(parquet, "MAX_GROUP_BYTES", 500)
    with pytest.raises(ValueError, match=r"column 'image' takes .* in row group 0, .*"):
        parquet.Cells(parquet.find_shards(shards), "image")
    assert parquet.Cells(parquet.find_shards(shards), "dmos")[0] == 64.0


def test_a_table_without_prompts(folder):
    for record in make_records("train", options_of(folder / "ratings.csv", prompt="")):
        assert record["prompt"] == ""


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
    path = write_table(tmp_path, GOOD, bad)
    with pytest.raises(ValueError, match=message):
        make_records("train", options_of(path, split="part"))


def test_bad_tables_are_named(tmp_path):
    with pytest.raises(ValueError, match="no such file"):
        make_records("train", options_of(tmp_path / "none.csv"))
    with pytest.raises(ValueError, match=r"expected a \.csv"):
        make_records("train", options_of(write_table(tmp_path, GOOD, name="t.xlsx")))
    for rows, header, message in (
        ([GOOD, GOOD[:3]], HEADER, "line 3: expected 5 cells .* got 3; quote"),
        ([GOOD], ["image", "prompt", "a", "b", "c"], "no column 'mos', 'dmos'; it has"),
        ([GOOD], [*HEADER[:4], "mos"], "'mos' appears twice"),
        ([], HEADER, "has no rows"),
        ([["a", "b", "", "nan", ""]], HEADER, "no row has a number"),
    ):
        path = write_table(tmp_path, *rows, header=header)
        with pytest.raises(ValueError, match=message):
            make_records("train", options_of(path))
    (tmp_path / "latin.csv").write_bytes(b"image,prompt,mos,dmos\n\xe9,a,1,1\n")
    with pytest.raises(ValueError, match="expected UTF-8"):
        make_records("train", options_of(tmp_path / "latin.csv"))
    (tmp_path / "quote.csv").write_text('image,prompt,mos,dmos\na,"b"c,1,1\n')
    with pytest.raises(ValueError, match="line 2: cannot parse the row"):
        make_records("train", options_of(tmp_path / "quote.csv"))


def test_bad_parquet_is_named(tmp_path, shards):
    pointer = tmp_path / "p.parquet"
    pointer.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(ValueError, match="git lfs pull"):
        make_records("train", options_of(pointer))
    data = bytearray((shards / "test-00000-of-1.parquet").read_bytes())
    pointer.write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match="not a Parquet file"):
        make_records("train", options_of(pointer))
    twice = pa.table([[1.0], [2.0], ["x"]], names=["mos", "mos", "image"])
    pq.write_table(twice, tmp_path / "twice.parquet")
    options = options_of(tmp_path / "twice.parquet", targets="mos:1-5->overall")
    options["rated_images"]["prompt"] = ""
    with pytest.raises(ValueError, match="column 'mos' appears twice"):
        make_records("train", options)
    with pytest.raises(ValueError, match="no column 'quality'; it has image, prompt"):
        make_records("train", options_of(shards, targets="quality:0-1->overall"))


def test_images_that_are_missing_are_named_before_any_is_read(folder, tmp_path):
    rows = [[str(folder / row[0]), *row[1:]] for row in rows_of()]
    rows[19][0], rows[21][0] = "gone.jpg", ""
    path = write_table(tmp_path, *rows)
    official = options_of(path, split="part")
    with pytest.raises(
        ValueError,
        match=r"t\.csv, line 21, column 'image': 'gone.jpg' is not a file in .*; 2 of "
        r"the 18 rows of split 'train' have no image",
    ):
        make_records("train", official)
    assert len(make_records("test", official)) == 3  # whose images are there
    records = make_records("train", official | {"bad_records": "skip"})
    with pytest.raises(ImageError, match=r"t\.csv, line 21, .*nothing of that name"):
        records[13]
    with pytest.raises(ImageError, match="a path or encoded bytes, got None"):
        records[15]


def test_parquet_rows_without_an_image_are_named(tmp_path, folder):
    cells = [{"bytes": jpeg(9), "path": "same.jpg"} for _ in range(8)]
    for row, cell, message in (
        (5, None, "is empty"),
        (6, {"bytes": None, "path": None}, "is empty"),
        (7, {"bytes": None, "path": "gone.jpg"}, "'gone.jpg' is not a file"),
    ):
        given = cells[:row] + [cell] + cells[row + 1 :]
        table = {"image": given, "prompt": list("abcdefgh"), "mos": [3.0] * 8}
        pq.write_table(pa.table(table), tmp_path / "t.parquet", row_group_size=3)
        options = options_of(tmp_path / "t.parquet", targets="mos:1-5->overall")
        options["rated_images"] |= {"dev_share": 0.0, "test_share": 0.0}
        with pytest.raises(ValueError, match=rf"row {row}, column 'image': {message}"):
            make_records("train", options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": ""}, "path is empty; set it"),
        ({"targets": ""}, "targets is empty; set it, for example to mos_quality:1-5"),
        ({"targets": "mos->overall"}, "expected column:worst-best->target"),
        ({"targets": "mos:1-5->implausibility"}, "'implausibility' is a heatmap"),
        ({"targets": "mos:1-5->mood"}, "unknown target 'mood'"),
        (
            {"targets": "mos:5-5->overall"},
            "worst and best of 'mos:5-5->overall' must differ",
        ),
        (
            {"targets": "mos:1-5->overall,dmos:0-1->overall"},
            "two columns for 'overall'",
        ),
        ({"targets": "mos:1-5->alignment"}, "asks for overall, but .* alignment only"),
        ({"cut": "shares"}, "cut='shares'; expected 'hash' or 'rank'"),
        ({"colunm": "x"}, "has no option colunm; it has .*split"),
        ({"split": "part", "folds": 4}, "set either split"),
        ({"split": "part", "group": "dmos"}, None),
        ({"split": "part", "group": "mos"}, "divide 5 groups, such as '1'"),
        ({"targets": "mos:1-2->overall"}, "got '3'; .* .and 9 more such cells"),
    ],
)
def test_options_that_make_no_sense(folder, options, message):
    given = options_of(folder / "ratings.csv") | {}
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
    with pytest.raises(ValueError, match="expected a number, got '1_0'"):
        rating.score("1_0", "")
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
    known = {row[0]: row[2] for row in rows_of()}
    for batch, infos in found[0]:
        for row, info in enumerate(infos):
            mos, weight = known[info["uid"]], batch["weights"]["overall"][row]
            assert weight == bool(mos)
            expected = (float(mos) - 1) / 4 if mos else 0
            assert batch["targets"]["overall"][row] == pytest.approx(expected)
            assert batch["weights"]["plausibility"][row] == 1


@pytest.mark.parametrize("loader", ["grain", "seqio"])
def test_a_task_that_no_column_answers_is_refused(folder, loader):
    config = _config(folder, loader, task="rated_mine_alignment")
    config.task.targets = ("alignment",)
    if loader == "grain":
        registry.register(registry.Task(config.task.name, ("alignment",), make_records))
    else:
        from rahf.input.seqio import tasks as seqio_tasks

        splits = {"train": 0, "dev": 0, "test": 0}
        seqio_tasks.add_task(config.task.name, ("alignment",), make_records, splits)
    with pytest.raises(ValueError, match="asks for alignment, but .* overall, plausib"):
        data_input.make_train_input(config)


@pytest.mark.parametrize("loader", ["grain", "seqio"])
def test_a_target_without_a_column_is_named_once(folder, loader, caplog):
    config = _config(folder, loader)
    with caplog.at_level(logging.WARNING, "absl"):
        data_input.make_train_input(config)
        assert "trained on nothing" not in caplog.text
        config.task.targets = ("overall", "plausibility", "aesthetics")
        data_input.make_train_input(config)
    assert caplog.text.count("config.task.targets: aesthetics: no column") == 1


@pytest.mark.parametrize("loader", ["grain", "seqio"])
def test_rows_that_are_added_change_the_digest(folder, tmp_path, loader):
    rows = [[str(folder / row[0]), *row[1:]] for row in rows_of()]
    digests = []
    for number in (len(rows), len(rows), len(rows) - 1):
        config = _config(folder, loader)
        config.input.rated_images.path = str(write_table(tmp_path, *rows[:number]))
        digests.append(data_input.make_train_input(config).digest())
    assert digests[0] == digests[1] != digests[2] and digests[0]


def test_a_table_as_windows_writes_it(folder, tmp_path):
    image = folder / "images/0.jpg"
    lines = [f'{image},"prompt {i}", 3 ,50' for i in range(8)]
    text = "\r\n".join(["\ufeffimage,prompt,mos,dmos", *lines, ""])
    (tmp_path / "t.csv").write_bytes(text.encode())
    records = [r for side in all_records(tmp_path / "t.csv") for r in side.values()]
    assert [record["overall_score"] for record in records] == [0.5] * 8
    assert {record["artifact_score"] for record in records} == {0.5}


@pytest.mark.parametrize("loader", ["grain", "seqio"])
def test_training_resumes_exactly_on_one_target(folder, loader):
    config = _config(folder, loader, task="rated_images_overall")
    config.model.variant = "augmented"
    whole = assert_resumes(config, 2, 3)
    assert not any(batch["weights"]["plausibility"].any() for batch in whole)


def test_rows_that_lack_something_are_counted(folder, tmp_path, caplog):
    rows = [[str(folder / row[0]), *row[1:]] for row in rows_of()]
    rows[3][3] = rows[5][3] = rows[5][1] = ""
    with caplog.at_level(logging.WARNING, "absl"):
        make_records("train", options_of(write_table(tmp_path, *rows)))
    assert "6 of 24 rows have no number in 'mos'" in caplog.text
    assert "2 of 24 rows have no number in 'dmos'" in caplog.text
    assert "1 of 24 rows have no rating at all" in caplog.text
    assert "1 of 24 rows have no prompt in 'prompt'" in caplog.text


def test_memory_is_by_what_is_there(tmp_path):
    prompts = [f"prompt {i}" for i in range(2000)]
    prompts[7] = "long " * 200_000
    paths, ones = [f"{i}.jpg" for i in range(2000)], [3.0] * 2000
    table = pa.table({"image": paths, "prompt": prompts, "mos": ones})
    pq.write_table(table, tmp_path / "t.parquet")
    options = options_of(tmp_path / "t.parquet", targets="mos:1-5->overall")
    tracemalloc.start()
    records = make_records("train", options | {"bad_records": "skip"})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(records) > 1000 and peak < 60e6  # as numpy text it would take 8 GB
