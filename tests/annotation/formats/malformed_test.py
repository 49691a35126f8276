"""Files of other tools with anything in any place: read, or one error that says where."""

import copy
import json
import random
import re
import zipfile

import pytest
from PIL import Image

from rahf.annotation.formats import label_studio, reading, task_sources
from rahf.annotation.formats.importing import ImportOptions
from rahf.annotation.formats.rated_rows import RatedRow
from tests.annotation.formats.cvat_test import TASK

ROW = {
    "image": "cat.png", "prompt": "a yellow cat", "rater": "r1",
    "implausible_points": [[0.25, 0.5]], "misaligned_points": [[0.1, 0.1]],
    "misaligned_words": [1], "scores": {"plausibility": 2, "overall": 3},
    "seconds": 4.0, "split": "train", "guess_shown": True, "notes": "odd",
}  # fmt: skip
# A number is one that JSON allows, or that Python's reader does.
ODD = (None, 5, -1, 0.5, 1e999, float("nan"), 10**400, True, "", "x", "5" * 5000, "\0",
       "\ud800", "Infinity", [], [5], [None], [[]], ["x"], {}, {"a": 5}, [{}])  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    for name in ("cat.png", "dog.png", "emu.png"):
        Image.new("RGB", (640, 480)).save(tmp_path / name)
    return tmp_path


def _tasks(*, meta):
    """A task with an annotation, a skip and a prediction."""
    skip = {"image": "cat.png", "prompt": "a yellow cat", "rater": "r2"}
    rated = [(ROW, None), (skip, "dark")]
    [task] = label_studio.make_tasks(
        RatedRow(row=row, skipped=skipped, width=640, height=480)
        for row, skipped in rated
    )
    task["annotations"][0] |= {"completed_by": {"id": 3}, "updated_at": "2024-03-09"}
    results = [result for one in task["annotations"] for result in one["result"]]
    if not meta:
        for result in results:
            result.pop("meta", None)
    plain = [{k: v for k, v in one.items() if k != "meta"} for one in results]
    return [task | {"predictions": [{"result": plain[:-2]}]}]


def _places(value, place=()):
    yield place
    listed = value.items() if isinstance(value, dict) else enumerate(value)
    for key, entry in listed:
        if isinstance(entry, dict | list):
            yield from _places(entry, (*place, key))
        else:
            yield (*place, key)


def _changed(value, place, odd):
    value = copy.deepcopy([value])
    holder = value
    for key, after in zip((0, *place), place, strict=False):
        holder = holder[key]
    if not place:
        return odd
    holder[after] = odd
    return value[0]


def _import(folder, path, form="label_studio"):
    options = ImportOptions(images=folder)
    reading.read_files([path], form, options).to_lines().encode()


@pytest.mark.parametrize("meta", [True, False])
def test_anything_anywhere_in_label_studios_tasks(folder, meta):
    tasks, path, refused = _tasks(meta=meta), folder / "project.json", 0
    dice = random.Random(0)
    places = dice.sample(list(_places(tasks)), 50)
    for place in places:
        for odd in dice.sample(ODD, 2):
            path.write_text(json.dumps(_changed(tasks, place, odd)))
            for read in (
                lambda: _import(folder, path),
                lambda: list(task_sources.read_tasks(str(path), folder)),
            ):
                try:
                    read()
                except ValueError as error:
                    refused += 1
                    named = "project.json" in str(error)
                    assert named or "no ratings were found" in str(error), (place, odd)
    assert refused > 10, "most odd values are in places that do not count"


@pytest.mark.parametrize(
    ("place", "odd", "error"),
    [
        (("annotations", 0, "result"), 5,
         "task 1, annotation 1, field 'result': expected a list, got 5"),
        (("annotations",), 5, "task 1, field 'annotations': expected a list, got 5"),
        (("meta", "rahf", "fields"), 5,
         "task 1, field 'meta', field 'fields': expected a list, got 5; or name them"),
        (("annotations", 0, "result", 1, "original_width"), "x",
         "field 'result', entry 1, field 'original_width': expected pixels, got 'x'"),
        (("annotations", 0, "result", 3, "value", "start"), float("inf"),
         "entry 3, labels 'words': field 'start': expected a character of the prompt"),
        (("annotations", 0, "result", 4, "value", "rating"), float("inf"),
         "entry 4, rating 'plausibility': field 'rating': expected a number, got inf"),
        (("annotations", 0, "completed_by"), [5], "field 'completed_by': expected a"),
        (("annotations", 0), 5, "expected an annotation as an object, got 5"),
    ],
)  # fmt: skip
def test_what_came_and_where_is_said(folder, place, odd, error):
    path, tasks = folder / "project.json", _tasks(meta=False)
    if "completed_by" in place:
        del tasks[0]["annotations"][0]["result"][0]  # which names the rater
    path.write_text(json.dumps(_changed(tasks, (0, *place), odd)))
    with pytest.raises(ValueError, match="project.json") as raised:
        _import(folder, path)
    assert error in str(raised.value)


def test_anything_in_cvats_values(folder):
    path, dice, refused = folder / "annotations.xml", random.Random(0), 0
    odd = ["", "x", "-1", "1e999", "nan", "5" * 5000, "9" * 400, "1;2", "é", "٣"]
    values = list(re.finditer(r'="([^"]*)"|>([^<>\s]+)<', TASK))
    for found in values:
        start, end = found.span(1 if found[1] is not None else 2)
        for text in dice.sample(odd, 3):
            path.write_text(TASK[:start] + text + TASK[end:])
            try:
                _import(folder, path, "cvat")
            except ValueError as error:
                refused += 1
                assert "annotations.xml" in str(error)
    assert refused > len(values) / 2


@pytest.mark.parametrize(
    "packing", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2,
                zipfile.ZIP_LZMA]
)  # fmt: skip
def test_damaged_archives(folder, packing):
    path, dice, refused = folder / "task.zip", random.Random(0), 0
    with zipfile.ZipFile(path, "w", packing) as archive:
        archive.writestr("annotations.xml", TASK)
    whole = path.read_bytes()
    _import(folder, path, "cvat")
    for _ in range(60):
        data = bytearray(whole[: dice.choice((len(whole), dice.randrange(len(whole))))])
        for _ in range(dice.randrange(1, 4)):
            data[dice.randrange(len(data))] = dice.randrange(256)
        path.write_bytes(data)
        try:
            _import(folder, path, "cvat")
        except ValueError as error:
            refused += 1
            assert "task.zip" in str(error)
    assert refused > 30


@pytest.mark.parametrize("name", ["klingon", "utf-7", "utf-32", "gb18030", "x" * 500])
def test_an_unknown_encoding(folder, name):
    path = folder / "annotations.xml"
    path.write_text(TASK.replace('encoding="utf-8"', f'encoding="{name}"', 1))
    with pytest.raises(ValueError, match="annotations.xml: not valid XML: .*; export"):
        _import(folder, path, "cvat")
