"""One side for what belongs together, and the same side whatever is added."""

import logging

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rahf.datasets import rated_splits
from rahf.datasets.captions import CaptionTable
from rahf.datasets.rated_images import make_records
from tests.support import rated_tables
from tests.support.rated_tables import (
    HEADER,
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


def test_official_splits(folder):
    train, dev, test = all_records(folder / "ratings.csv", split="part")
    assert {r["prompt"] for r in test.values()} == {"a cat, number 0"}
    assert {r["prompt"] for r in dev.values()} == {"a cat, number 1"}
    assert len(train) == 18


def test_folds_test_every_image_once(folder):
    tested = [
        all_records(folder / "ratings.csv", seed=2, folds=4, fold=i)[2]
        for i in range(4)
    ]
    assert sorted(uid for side in tested for uid in side) == sorted(
        row[0] for row in rows_of()
    )


def test_the_split_of_a_file_is_its_name(shards):
    train, dev, test = all_records(shards, split="<file>", dev_share=0.0)
    assert (len(train), len(dev), len(test)) == (16, 0, 8)
    assert "train-00000-of-1.parquet:0" in train


SPELLINGS = ["{}.jpg", "./{}.jpg", "{folder}/{}.jpg", "b/../{}.jpg"]


@pytest.mark.parametrize("kind", ["paths", "bytes", "structs"])
def test_a_picture_without_a_prompt_lies_on_one_side(tmp_path, kind):
    """Twenty pictures of three raters each, in no order."""
    names = [i for _ in range(3) for i in range(20)]
    (tmp_path / "b").mkdir()
    for i in range(20):
        (tmp_path / f"{i}.jpg").write_bytes(jpeg(10 * i))
    paths = [
        SPELLINGS[(i + row // 20) % 4].format(i, folder=tmp_path)
        for row, i in enumerate(names)
    ]
    data = [(tmp_path / f"{i}.jpg").read_bytes() for i in names]
    cells = {
        "paths": paths,
        "bytes": data,
        "structs": [{"bytes": d, "path": "image.jpg"} for d in data],
    }[kind]
    table = pa.table({"image": cells, "mos": [float(1 + i % 5) for i in names]})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=7)
    options = {"targets": "mos:1-5->overall", "prompt": ""}
    sides = [
        {int(record["image"].mean() / 10 + 0.5) for record in side.values()}
        for side in all_records(tmp_path / "t.parquet", **options)
    ]
    assert all(sides) and sum(map(len, sides)) == 20
    moved = tmp_path / "moved"  # the splits go with the table
    moved.mkdir()
    (tmp_path / "t.parquet").rename(moved / "t.parquet")
    if kind != "paths":
        again = all_records(moved / "t.parquet", **options)
        assert [len(side) for side in again] == [3 * len(side) for side in sides]


def test_a_row_more_moves_no_other_row(folder, tmp_path):
    rows = [[str(folder / "images/0.jpg"), f"prompt {i}", "3", "5"] for i in range(40)]
    tested = []
    for some in (rows, rows[:7] + rows[8:], rows[::-1]):
        path = write_table(tmp_path, *some, header=HEADER[:4])
        records = make_records("test", options_of(path, folds=5, fold=1))
        tested.append({record["prompt"] for record in records})
    assert tested[0] == tested[1] | ({"prompt 7"} & tested[0]) == tested[2]


def test_one_name_for_every_spelling_of_a_path():
    name = rated_splits.picture_name
    same = ["a/x.png", "./a/x.png", "a//b/../x.png", "/data/a/x.png"]
    assert {name(path, "/data") for path in same} == {"a/x.png"}
    assert name("/other/x.png", "/data") == "/other/x.png"
    assert name("../x.png", "/data") == "../x.png"
    assert name("cafe\u0301.png", "/data") == name("caf\xe9.png", "/data")


def test_what_groups_badly_is_said(folder, tmp_path, caplog):
    rows = [[str(folder / "images/0.jpg"), f"prompt {i}", "3", "5"] for i in range(30)]
    with caplog.at_level(logging.WARNING, "absl"):
        make_records(
            "train", options_of(write_table(tmp_path, *rows, header=HEADER[:4]))
        )
    assert "1 pictures are in several splits, such as '" in caplog.text
    data = {"image": [jpeg(i) for i in range(9)], "group": [1.0] * 4 + [np.nan] * 5}
    table = pa.table(data | {"mos": [3.0] * 9})
    pq.write_table(table, tmp_path / "t.parquet")
    options = {"targets": "mos:1-5->overall", "prompt": "", "group": "group"}
    with caplog.at_level(logging.WARNING, "absl"):
        sides = all_records(tmp_path / "t.parquet", **options)
    assert "5 of 9 rows have no group in column 'group'" in caplog.text
    assert sum(map(len, sides)) == 9  # and an empty cell is no group of its own
    assert len({tuple(side) for side in sides if side}) == 3


def test_the_digest_knows_every_change_of_the_rows(folder, tmp_path):
    def digest(split="train", change=(), **options):
        rows = [[str(folder / row[0]), *row[1:]] for row in rows_of()]
        for row, column, value in change:
            rows[row][column] = value
        path = write_table(tmp_path, *rows)
        return make_records(split, options_of(path, split="part", **options)).digest()

    before = digest()
    assert before == digest() and len(before) == 64
    others = [
        digest("dev"),
        digest(change=[(2, 1, "a dog")]),
        digest(change=[(2, 2, "4.5")]),
        digest(change=[(2, 2, "")]),
        digest(change=[(2, 4, "test")]),
        digest(targets="mos:1-6->overall, dmos:100-0->plausibility"),
    ]
    assert len({before, *others}) == 7
    assert digest(change=[(0, 2, "4")]) == before  # a row of the test split


def test_an_old_workdir_keeps_its_cut(folder):
    options = options_of(folder / "ratings.csv")
    del options["rated_images"]["cut"]  # as configs were before
    for split, number in (("dev", 1), ("test", 5)):  # recorded from the code then
        prompts = {record["prompt"] for record in make_records(split, options)}
        assert prompts == {f"a cat, number {number}"}
    options["rated_images"] |= {"folds": 4, "fold": 3}
    assert len(make_records("test", options)) == 6  # exactly a quarter


def test_a_captions_table_has_a_digest_too(tmp_path):
    path = tmp_path / "captions.csv"
    path.write_text("image,caption\na.png,a cat\nb.png,a dog\n")
    before = CaptionTable(path).digest()
    path.write_text("image,caption\r\na.png,a cat\r\nb.png,a dog\r\n")
    assert CaptionTable(path).digest() == before
    path.write_text("image,caption\na.png,a cat\nb.png,a hen\n")
    assert CaptionTable(path).digest() != before
