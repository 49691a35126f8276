"""Human choices between two images: the source, the rules, and the binary."""

import io
import json
import logging
import sys
import tracemalloc
import types

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from rahf.bin import eval_preferences
from rahf.datasets import preference_pairs as source
from rahf.datasets.richhf import pickapic
from rahf.evaluation import preference_scores as scoring

# Of Pick-a-Pic's published schema; what else it has is never read.
SCHEMA = pa.schema(
    [
        ("are_different", pa.bool_()),
        ("best_image_uid", pa.string()),
        ("caption", pa.string()),
        ("has_label", pa.bool_()),
        ("image_0_uid", pa.string()),
        ("image_1_uid", pa.string()),
        ("jpg_0", pa.binary()),
        ("jpg_1", pa.binary()),
        ("label_0", pa.float64()),
        ("label_1", pa.float64()),
        ("ranking_id", pa.int64()),
    ]
)


def _jpeg(value):
    buffer = io.BytesIO()
    Image.new("RGB", (12, 10), (value,) * 3).save(buffer, "JPEG")
    return buffer.getvalue()


def _row(number, first, second, label, **changes):
    """A pair of grey images, `first` and `second` bright, named after it."""
    return {
        "caption": f"prompt {number // 2}",
        "has_label": label is not None,
        "image_0_uid": f"{number}-0",
        "image_1_uid": f"{number}-1",
        "jpg_0": _jpeg(first),
        "jpg_1": _jpeg(second),
        "label_0": label,
        "label_1": None if label is None else 1 - label,
        "ranking_id": number,
    } | changes


def _write(path, rows):
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), path, row_group_size=3)


TEST = [
    _row(0, 200, 100, 1.0),  # right
    _row(1, 100, 200, 1.0),  # wrong
    _row(2, 100, 200, 0.0),  # right
    _row(3, 150, 152, 0.5),  # a tie, called one if the threshold is 2 / 255 or more
    _row(4, 10, 240, None),
    _row(5, 150, 149, 1.0),  # right, and half where a tie is called
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pickapic")
    _write(folder / "test_unique-00000-of-00002-a1.parquet", TEST[:4])
    _write(folder / "test_unique-00001-of-00002-b2.parquet", TEST[4:])
    tuning = [_row(i, 100, 104, 0.5) for i in range(8)]
    tuning += [_row(i, 90, 200, 0.0) for i in range(8, 12)]
    _write(folder / "validation_unique-00000-of-00001-c3.parquet", tuning)
    return folder


def test_the_source_yields_labelled_pairs_in_order(folder):
    pairs = source.Preferences(folder, "test_unique")
    assert len(pairs) == 6
    for _ in range(2):  # again from the start
        found = list(pairs)
        assert [pair.uids[0] for pair in found] == ["0-0", "1-0", "2-0", "3-0", "5-0"]
        assert [pair.label for pair in found] == [1, 1, 0, 0.5, 1]
        assert found[0].images == (TEST[0]["jpg_0"], TEST[0]["jpg_1"])
        assert found[4].where.endswith("00001-of-00002-b2.parquet, row 1")
        assert pairs.unlabelled == 1
    assert len(source.Preferences(folder)) == 18
    [first, *_] = source.Preferences(folder, "test_unique", images=False)
    assert first.images is None and first.prompt == "prompt 0"


def test_a_copy_of_the_repository(folder, tmp_path):
    """Its folder of data, names with a hash, and images as {bytes, path}."""
    picture = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema(
        [
            field.with_type(picture) if field.name.startswith("jpg_") else field
            for field in SCHEMA
        ]
    )
    rows = [
        row | {name: {"bytes": row[name], "path": None} for name in ("jpg_0", "jpg_1")}
        for row in TEST
    ]
    data = tmp_path / "pickapic_v1[a]" / "data"
    data.mkdir(parents=True)
    for name, some in (
        ("test_unique-00000-of-00002-b2e8f4a1c0d96357.parquet", rows[:4]),
        ("test_unique-00001-of-00002-0c1d2e3f4a5b6978.parquet", rows[4:]),
        ("test-00000-of-00001-5f6e7d8c9b0a1234.parquet", rows[:1]),
    ):
        pq.write_table(pa.Table.from_pylist(some, schema), data / name)
    (data / "._test_unique-00000-of-00002-b2e8f4a1c0d96357.parquet").write_bytes(b"\0")
    (data.parent / ".cache").mkdir()
    (data.parent / ".cache" / "test_unique-x.parquet").write_bytes(b"\0")
    expected = list(source.Preferences(folder, "test_unique"))
    for place in (data.parent, data):
        found = list(source.Preferences(place, "test_unique"))
        assert [(p.uids, p.prompt, p.label, p.images) for p in found] == [
            (p.uids, p.prompt, p.label, p.images) for p in expected
        ]
    # A folder may be named after the split, as the hub's own conversion has it.
    (data / "train").mkdir()
    pq.write_table(pa.Table.from_pylist(rows[:2], schema), data / "train/0000.parquet")
    assert len(source.Preferences(data.parent, "train")) == 2
    shards = pickapic.find_shards(str(data.parent))
    assert [shard.name.split("-")[0] for shard in shards] == [
        "data/test",
        "data/test_unique",
        "data/test_unique",
        "data/train/0000.parquet",
    ]
    with pickapic.ShardReader(shards[1]) as reader:
        [(uid, picture)] = reader.read(0, {"2-1"})
    assert (uid, picture.image, picture.prompt) == ("2-1", TEST[2]["jpg_1"], "prompt 1")
    null = rows[0] | {"jpg_0": {"bytes": None, "path": "elsewhere.jpg"}}
    path = tmp_path / "null.parquet"
    pq.write_table(pa.Table.from_pylist([null], schema), path)
    with pytest.raises(ValueError, match=r"row 0: fields jpg_0 and jpg_1 must be enc"):
        list(source.Preferences(path))


def test_a_source_that_is_not_there(folder, tmp_path):
    with pytest.raises(ValueError, match=r"files test-\*.parquet, found test_uniq"):
        source.Preferences(folder, "test")
    one = folder / "validation_unique-00000-of-00001-c3.parquet"
    with pytest.raises(ValueError, match="expected a folder"):
        source.Preferences(one, "validation_unique")
    pq.write_table(pa.table({"caption": ["a"]}), tmp_path / "x.parquet")
    with pytest.raises(ValueError, match="no column 'image_0_uid', .*it has caption"):
        source.Preferences(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label_1": 1.0}, "row 1: expected label_0 and label_1 .* got 1.0 and 1.0"),
        ({"label_0": None}, "row 1: expected label_0 and label_1 .* got None and 0.0"),
        ({"caption": None}, "row 1: field 'caption' must be text, got None"),
        ({"jpg_1": None}, "row 1: fields jpg_0 and jpg_1 must be encoded images"),
    ],
)
def test_a_malformed_row_is_named(tmp_path, changes, message):
    path = tmp_path / "pairs.parquet"
    _write(path, [TEST[0], TEST[1] | changes])
    with pytest.raises(ValueError, match=message):
        list(source.Preferences(path))


class _Predictor:
    """Calls the mean brightness plausible; the model is not what is tested here."""

    step = 7

    def predict(self, pictures, prompts, batch_size):
        assert len(pictures) == len(prompts)
        return [
            types.SimpleNamespace(scores={"plausibility": p.mean() / 255, "overall": 0})
            for p in pictures
        ]


@pytest.fixture
def predictor(monkeypatch):
    module = types.SimpleNamespace(load=lambda workdir, step: _Predictor())
    monkeypatch.setitem(sys.modules, "rahf.inference.predictor", module)


@pytest.mark.usefixtures("predictor")
def test_the_binary_measures_a_checkpoint(folder, tmp_path, capsys):
    flags = [f"--checkpoint={tmp_path}", f"--pairs={folder}", "--split=test_unique"]
    eval_preferences.main([*flags, "--batch_size=4"])
    printed = capsys.readouterr().out
    assert "plausibility" in printed and "1 rows without a label, 0 pairs" in printed
    written = tmp_path / "eval" / "preferences"
    found = json.loads((written / "preferences.json").read_text())
    metrics = found["metrics"]["plausibility"]
    assert metrics["accuracy"] == pytest.approx((1 + 0 + 1 + 0.5 + 1) / 5)
    assert metrics["low"] <= metrics["accuracy"] <= metrics["high"]
    assert metrics["accuracy_without_ties"] == 0.75
    assert (metrics["n_compared"], metrics["n_ties"], metrics["n_prompts"]) == (5, 1, 3)
    constant = found["metrics"]["overall"]  # all ties: right about one pair of five
    assert (constant["accuracy"], constant["ties_called"]) == (0.6, 1.0)
    lines = (written / "preferences.examples.jsonl").read_text().splitlines()
    assert json.loads(lines[3])["uids"] == ["3-0", "3-1"]

    eval_preferences.main([*flags, "--tune_split=validation_unique"])
    found = json.loads((written / "preferences.json").read_text())
    metrics = found["metrics"]["plausibility"]
    assert metrics["threshold"] == pytest.approx(4 / 255, abs=0.002)
    assert metrics["accuracy"] == pytest.approx((1 + 0 + 1 + 1 + 0.5) / 5)


@pytest.mark.usefixtures("predictor")
def test_images_that_cannot_be_read(tmp_path, capsys):
    _write(tmp_path / "p.parquet", [TEST[0], TEST[1] | {"jpg_1": b"nothing"}])
    flags = [f"--checkpoint={tmp_path}", f"--pairs={tmp_path / 'p.parquet'}"]
    with pytest.raises(SystemExit, match=r"p.parquet, row 1, field 'jpg_1': expected"):
        eval_preferences.main(flags)
    eval_preferences.main([*flags, "--on_error=skip"])
    assert "1 pairs skipped" in capsys.readouterr().out


def test_the_binary_measures_scores_from_a_file(folder, tmp_path, capsys):
    path = tmp_path / "scores.jsonl"
    rows = [
        {
            "id": f"{i}-{side}",
            "scores": {"mine": 10 * side + i},
            "prompt": "a\u2028b\x85c",
        }
        for i in range(6)
        for side in range(2)
    ]
    rows.append({"id": "9-9", "error": "an image that could not be read"})
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]  # as predict writes
    path.write_text("\n".join(lines), "utf-8")
    flags = [f"--scores={path}", f"--pairs={folder}", "--split=test_unique"]
    eval_preferences.main([*flags, f"--output={tmp_path}"])
    found = json.loads((tmp_path / "preferences.json").read_text())
    assert found["metrics"]["mine"]["accuracy"] == pytest.approx((1 + 0.5) / 5)
    assert "mine" in capsys.readouterr().out
    path.write_text(json.dumps(rows[0]) + "\n")
    with pytest.raises(SystemExit, match="no line with id '0-1'"):
        eval_preferences.main(flags)
    with pytest.raises(
        SystemExit, match="no pairs to measure: 1 have no label, 5 were"
    ):
        eval_preferences.main([*flags, "--on_error=skip"])
    path.write_text('{"id": "0-0", "score": 1}\n')
    with pytest.raises(SystemExit, match='line 1: expected {"id": uid, "scores"'):
        eval_preferences.main(flags)


def _scores_file(path, *lines):
    path.write_text("\ufeff" + "\r\n".join(lines))
    return scoring.by_file(path)


GOOD = '{"id": "0-0", "scores": {"a": 1, "b": 2}}'


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (GOOD, "line 2: id '0-0' appears twice, first in line 1"),
        ('{"id": 7, "scores": {"a": NaN}}', "line 2: score 'a' of id 7: .* got nan"),
        ('{"id": "x", "scores": {"a": "1"}}', "score 'a' of id 'x': .* got '1'"),
        ('{"id": "x", "scores": {"a": true}}', "score 'a' of id 'x': .* got True"),
        ('{"id": "x", "scores": {"a": 1, "a": 2}}', "line 2: .*'a' appears twice"),
        ('{"id": null, "scores": {"a": 1}}', "line 2: .*id None is not text"),
    ],
)
def test_a_malformed_score_file_is_named_by_line(tmp_path, line, message):
    with pytest.raises(ValueError, match=message):
        _scores_file(tmp_path / "s.jsonl", GOOD, line)


def test_an_image_that_lacks_a_score_is_named(tmp_path, caplog):
    path = tmp_path / "s.jsonl"
    pair = source.Pair(("0-0", "0-1"), "p", 1.0, None, "pairs.parquet, row 0")
    lines = [GOOD, '{"id": "0-1", "scores": {"a": 0}}']
    scorer = _scores_file(path, *lines)
    with pytest.raises(
        ValueError, match=r"s\.jsonl, line 2: id '0-1' has no score 'b', .*row 0"
    ):
        scorer([pair])
    assert scoring.by_file(path, on_error="skip")([pair]) == [None]
    rows = [{"scores": [{"a": 1.0, "b": 2.0}, {"a": 0.0}], "label": 1.0, "prompt": "p"}]
    with caplog.at_level(logging.WARNING, "absl"):
        assert list(scoring.compare(scoring.Scored(rows), resamples=10)) == ["a"]
    assert "score 'b' is not measured" in caplog.text


def test_a_score_that_is_not_finite_is_named(folder):
    def scorer(pairs):
        return [({"a": 1.0}, {"a": float("inf")}) for _ in pairs]

    with pytest.raises(ValueError, match="row 0: score 'a' of image '0-1' is inf"):
        scoring.score_pairs(source.Preferences(folder, "test_unique"), scorer)


@pytest.mark.usefixtures("predictor")
def test_an_image_that_is_missing_is_found_before_any_is_scored(tmp_path, monkeypatch):
    def predict(*_, **__):
        raise AssertionError

    monkeypatch.setattr(_Predictor, "predict", predict)
    rows = [_row(i, 10, 200, 1.0) for i in range(21)]
    rows[20]["jpg_1"] = None
    _write(tmp_path / "late-0.parquet", rows)
    _write(tmp_path / "tune-0.parquet", rows[:5])
    flags = [f"--checkpoint={tmp_path}", f"--pairs={tmp_path}"]
    with pytest.raises(SystemExit, match=r"late-0.parquet, row 20: .*jpg_1"):
        eval_preferences.main([*flags, "--split=late", "--tune_split=tune"])


def test_one_long_prompt_takes_no_room_for_the_others():
    row = {"scores": [{"a": 1.0}, {"a": 0.0}], "label": 1.0, "prompt": "p"}
    scored = scoring.Scored([row] * 5000 + [row | {"prompt": "long " * 200_000}])
    tracemalloc.start()
    found = scoring.compare(scored, resamples=10)["a"]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (found.n_compared, found.n_prompts) == (5001, 2)
    assert peak < 20e6  # as numpy text it took 20 GB


def test_tuning_on_what_cannot_be_compared_is_no_tuning():
    def rows(*scores):
        pair = {"uids": ["a", "b"], "prompt": "p", "label": 1.0}
        return [pair | {"scores": list(scores)}]

    scored = scoring.Scored(rows({"x": 1.0, "y": 2.0}, {"x": 0.0, "y": 0.0}))
    some = scoring.Scored(rows({"x": 1.0, "y": 2.0}, {"y": 0.0}))
    assert list(scoring.compare(scored, some, resamples=10)) == ["y"]
    nan = scoring.Scored(rows({"x": np.nan, "y": 2.0}, {"x": 0.0, "y": 0.0}))
    with pytest.raises(ValueError, match="pairs to tune on: 1 of . values are NaN"):
        scoring.compare(scored, nan, resamples=10)


def test_scores_that_only_some_images_have_are_not_compared():
    rows = [
        {"scores": [{"a": 1.0, "b": 2.0}, {"b": 0.0, "a": 0.0}]},
        {"scores": [{"b": 1.0}, {"b": 0.0, "c": 1.0}]},
    ]
    assert scoring.Scored(rows=rows).names() == ["b"]


def test_one_long_prompt_does_not_make_the_others_long():
    def row(prompt):
        scores = [{"x": 1.0}, {"x": 0.0}]
        return {"uids": ["a", "b"], "prompt": prompt, "label": 1.0, "scores": scores}

    rows = [row(f"prompt {i}") for i in range(500)] + [row("x" * 10**6)]
    prompts = scoring.Scored(rows=rows).arrays("x")[2]
    assert prompts.nbytes < 10_000
    [agreement] = scoring.compare(scoring.Scored(rows=rows), resamples=2).values()
    assert (agreement.n_prompts, agreement.accuracy) == (501, 1.0)
