"""Pairs in Pick-a-Pic's form, read to learn from."""

import io
import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from rahf.datasets.pick_a_pic_pairs import pick_a_pic_pairs
from rahf.input import loader as data_input
from tests.support import tiny

_TYPES = {
    "image_0_uid": pa.string(),
    "image_1_uid": pa.string(),
    "jpg_0": pa.binary(),
    "jpg_1": pa.binary(),
    "caption": pa.string(),
    "label_0": pa.float64(),
    "label_1": pa.float64(),
    "has_label": pa.bool_(),
    "gap": pa.float64(),
}


def _png(value):
    buffer = io.BytesIO()
    Image.new("RGB", (12, 10), (value,) * 3).save(buffer, "PNG")
    return buffer.getvalue()


def _row(number, label, **changes):
    row = {
        "image_0_uid": f"{number}-0",
        "image_1_uid": f"{number}-1",
        "jpg_0": _png(2 * number),
        "jpg_1": _png(255 - number),
        "caption": f"prompt {number // 2}",
        "label_0": label,
        "label_1": None if label is None else 1 - label,
        "has_label": label is not None,
        "gap": number / 10,
    }
    return row | changes


def _write(path, rows):
    schema = pa.schema(list(_TYPES.items()))
    pq.write_table(pa.Table.from_pylist(rows, schema), path, row_group_size=3)


@pytest.fixture
def folder(tmp_path):
    labels = [1.0, 0.0, 0.5, None, 0.75, 1.0, 0.0]
    rows = [_row(n, label) for n, label in enumerate(labels)]
    _write(tmp_path / "train-00000-of-00002.parquet", rows[:4])
    _write(tmp_path / "train-00001-of-00002.parquet", rows[4:])
    _write(tmp_path / "validation_unique-00000-of-00001.parquet", [_row(8, 1.0)])
    return tmp_path


def _pairs(place, split="train", score="overall", **options):
    given = {"image_size": 16, "pick_a_pic": {"path": str(place), **options}}
    return pick_a_pic_pairs(split, given, score=score)


def test_labelled_rows_are_pairs(folder):
    pairs = _pairs(folder)
    assert len(pairs) == 6 and pairs.unlabelled == 1
    for at, (number, share) in enumerate(
        [(0, 1), (1, 0), (2, 0.5), (4, 0.75), (5, 1), (6, 0)]
    ):
        record = pairs[at]
        assert (
            record["uid"] == f"{number}-0" and record["other"]["uid"] == f"{number}-1"
        )
        assert record["prompt"] == record["other"]["prompt"] == f"prompt {number // 2}"
        assert record["overall_preference"] == share
        assert (record["image"] == np.full((16, 16, 3), 2 * number)).all()
        assert (record["other"]["image"] == 255 - number).all()
        assert "margin" not in record
    assert len(_pairs(folder, "dev")) == 1
    copy = pickle.loads(pickle.dumps(pairs))  # as worker processes get it
    assert copy[3]["uid"] == "4-0"


def test_the_score_and_the_margin_are_named(folder):
    record = _pairs(folder, score="aesthetics", margin="gap")[3]
    assert record["aesthetics_preference"] == 0.75 and record["margin"] == 0.4
    assert "overall_preference" not in record
    with pytest.raises(ValueError, match="no column 'margin'"):
        _pairs(folder, margin="margin")


def test_dev_may_be_a_share_of_the_training_prompts(folder):
    train, dev = (_pairs(folder, s, dev_share=0.3) for s in ("train", "dev"))
    prompts = [{each["prompt"] for each in pairs} for pairs in (train, dev)]
    assert len(train) + len(dev) == 6 and not prompts[0] & prompts[1]
    assert len(prompts[1]) >= 1


def test_a_digest_knows_labels_and_split(folder):
    before = _pairs(folder).digest()
    assert before == _pairs(folder).digest() != _pairs(folder, "dev").digest()
    assert before != _pairs(folder, score="aesthetics").digest()
    _write(folder / "train-00001-of-00002.parquet", [_row(4, 0.25)])
    assert _pairs(folder).digest() != before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"jpg_1": None}, "row 1: field 'jpg_1' has no image: expected it encoded"),
        ({"jpg_0": b"no image"}, "row 1: field 'jpg_0': "),
        ({"label_0": 1.5}, "row 1: expected label_0 and label_1 .* got 1.5 and"),
        ({"label_1": 1.0}, "shares of votes .* that add up to 1, got 1.0 and 1.0"),
        ({"label_0": None}, "got None and 0.0"),
        ({"caption": None}, "row 1: field 'caption' must be text, got None"),
    ],
)
def test_what_is_wrong_with_a_row(tmp_path, changes, message):
    _write(tmp_path / "train-0.parquet", [_row(0, 1.0), _row(1, 1.0, **changes)])
    pairs = _pairs(tmp_path)
    assert pairs[0]["uid"] == "0-0"
    with pytest.raises(ValueError, match=rf"train-0.parquet, {message}|{message}"):
        pairs[1]


def test_bad_options(folder):
    with pytest.raises(ValueError, match="pick_a_pic.path is not set"):
        _pairs("")
    with pytest.raises(ValueError, match="has no option folder; it has path, train"):
        _pairs(folder, folder="x")
    with pytest.raises(ValueError, match=r"dev_share=1.0 must be in \[0, 1\)"):
        _pairs(folder, dev_share=1.0)
    with pytest.raises(ValueError, match="no split 'val'; known: train, dev, test"):
        _pairs(folder, "val")
    with pytest.raises(ValueError, match=r"expected files test_unique-\*.parquet"):
        _pairs(folder, "test")


def _config(folder):
    config = tiny.config()
    config.task.name = "pick_a_pic_pairs"
    config.task.targets = ("overall", "overall_preference")
    config.input.batch_size = 4
    config.input.pick_a_pic = {"path": str(folder)}
    return config


def test_a_batch_of_them(folder):
    source = data_input.make_train_input(_config(folder))
    batch = next(source)
    assert batch["weights"]["overall_preference"].tolist() == [1, 1, 1, 1]
    assert batch["weights"]["overall"].sum() == 0
    chances = batch["targets"]["overall_preference"][:, 0]
    assert (chances[::2] + chances[1::2] == 1).all()
    assert source.digest() is not None and source.records() == 6
    source.close()


def test_corrupt_pairs_are_counted_as_others_are(folder):
    rows = [_row(n, 1.0) for n in range(6)]
    rows[2]["jpg_1"] = rows[2]["jpg_1"][:40]  # cut off
    rows[4]["image_1_uid"] = "4-0"  # the same image
    _write(folder / "train-00000-of-00002.parquet", rows)
    (folder / "train-00001-of-00002.parquet").unlink()
    config = _config(folder)
    with pytest.raises(ValueError, match="jpg_1|are the same"):
        source = data_input.make_train_input(config)
        for _ in range(3):
            next(source)
    config.input.bad_records = "skip"
    source = data_input.make_train_input(config)
    for _ in range(3):  # an epoch
        batch = next(source)
        assert batch["weights"]["overall_preference"].sum() == 4
    assert source.metrics()["bad_records"] >= 2
    source.close()
