"""Label Studio's JSON, in and out, and back again."""

import copy
import json
import pathlib
import re
from xml.etree import ElementTree

import pytest
from PIL import Image

from rahf.annotation import store
from rahf.annotation.assignment import AssignmentRules, take
from rahf.annotation.formats import exporting, label_studio, rated_rows, reading
from rahf.annotation.formats.importing import ImportOptions
from rahf.annotation.formats.label_names import LabelNames
from rahf.annotation.formats.label_studio_results import find_span, make_result
from rahf.annotation.formats.marks import FIELDS
from rahf.annotation.records import Feedback, RatingTask
from rahf.datasets.ratings import rating_files
from tests.support import raters_files

ROOT = pathlib.Path(__file__).resolve().parents[3]
FIXTURES = ROOT / "tests/fixtures"
SIZE = {"original_width": 600, "original_height": 400, "image_rotation": 0}
PROMPT = "a yellow cat"


def _point(x, y, label="implausible", **fields):
    value = {"x": x, "y": y, "width": 0.4, "keypointlabels": [label]}
    return {"id": "Dx_aB91ISN", "from_name": "kp", "to_name": "img", **SIZE,
            "type": "keypointlabels", "origin": "manual", "value": value, **fields}  # fmt: skip


def _rating(name, value):
    return {"id": "x", "from_name": name, "to_name": "img", "type": "rating",
            "value": {"rating": value}}  # fmt: skip


def _span(start, end, text=None, label="misaligned"):
    value = {"start": start, "end": end, "labels": [label]}
    value |= {} if text is None else {"text": text}
    return {"id": "y", "from_name": "w", "to_name": "prompt", "type": "labels",
            "value": value}  # fmt: skip


def _annotation(*result, **fields):
    return {
        "id": 1001,
        "completed_by": 3,
        "result": list(result),
        "was_cancelled": False,
        "ground_truth": False,
        "created_at": "2024-03-09T22:16:08.728353Z",
        "updated_at": "2024-03-09T22:16:08.728378Z",
        "draft_created_at": None,
        "lead_time": 41.5,
        "prediction": {},
        "result_count": 2,
        "task": 7,
        "parent_prediction": None,
    } | fields


def _task(*annotations, **fields):
    return {
        "id": 7,
        "annotations": list(annotations),
        "file_upload": "1a2b3c4d-cat.png",
        "drafts": [],
        "predictions": [],
        "data": {"image": "/data/upload/3/1a2b3c4d-cat.png", "prompt": PROMPT},
        "meta": {},
        "created_at": "2024-03-09T21:52:49.513742Z",
        "project": 83,
        "total_annotations": len(annotations),
    } | fields


@pytest.fixture
def folder(tmp_path):
    Image.new("RGB", (600, 400)).save(tmp_path / "cat.png")
    return tmp_path


def _import(folder, tasks, form="label_studio", **options):
    path = folder / "project.json"
    path.write_text(json.dumps(tasks))
    return reading.read_files([path], form, ImportOptions(images=folder, **options))


def test_a_finished_project(folder):
    done = _annotation(
        _point(25, 50), _point(100, 0.0, "misaligned"), _span(2, 8, "yellow"),
        _rating("plausibility", 2), _rating("overall", 4),
        {"from_name": "comment", "type": "textarea", "value": {"text": ["odd"]}},
        {"from_name": "kind", "type": "choices", "value": {"choices": ["photo"]}},
    )  # fmt: skip
    empty = _annotation(completed_by={"id": 4, "email": "ann@example.org"})
    tasks = [_task(done, empty, _annotation(was_cancelled=True)), _task(id=8)]
    found = _import(folder, tasks)
    assert found.rows == [
        {
            "image": "cat.png", "rater": "3", "prompt": PROMPT, "seconds": 41.5,
            "implausible_points": [[0.25, 0.5]], "misaligned_points": [[1, 0]],
            "misaligned_words": [1], "scores": {"plausibility": 2, "overall": 4},
            "notes": "odd",
        },
        {
            "image": "cat.png", "rater": "ann@example.org", "prompt": PROMPT,
            "seconds": 41.5, "implausible_points": [], "misaligned_points": [],
            "misaligned_words": [],
        },
    ]  # fmt: skip
    assert found.summary() == (
        "2 ratings of 1 images by 2 raters; left out: 1 skipped or cancelled "
        "annotations, 1 tasks without an annotation; without a place in a raters' "
        "file: 1 choices 'kind'"
    )
    path = folder / "ratings.jsonl"
    path.write_text(found.to_lines())
    [image] = rating_files.read(path)
    assert len(image.ratings) == 2


def test_an_old_export_says_completions(folder):
    task = _task()
    del task["annotations"]
    task["completions"] = [
        {"id": 1, "lead_time": 3, "result": [_point(50, 50)]},
        {"id": 2, "skipped": True, "result": []},
    ]
    found = _import(folder, [task], rater="me")
    assert [row["rater"] for row in found.rows] == ["me"]
    assert found.counts == {"skipped or cancelled annotations": 1}


def test_the_latest_of_several_by_one_person_counts(folder):
    old = _annotation(_point(10, 10))
    new = _annotation(_point(20, 10), id=5, updated_at="2024-04-01T00:00:00Z")
    found = _import(folder, [_task(new, old)])
    assert [row["implausible_points"] for row in found.rows] == [[[0.2, 0.1]]]
    assert found.counts == {"annotations replaced by later ones": 1}


def test_labels_of_other_names_and_fields_that_were_asked_for(folder):
    done = _annotation(_point(10, 10, "Artifact"), _point(1, 1, "Nose"), _rating("q", 5),
                       _span(0, 1, "a", "Wrong"))  # fmt: skip
    with pytest.raises(rating_files.RatingsError) as error:
        _import(folder, [_task(done)])
    assert "--labels=Artifact:implausible_points" in str(error.value)
    names = LabelNames({"Artifact": "implausible_points", "Nose": "ignore",
                        "q": "overall", "Wrong": "misaligned_words"})  # fmt: skip
    asked = ["implausible_points", "misaligned_points"]
    [row] = _import(folder, [_task(done)], names=names, fields=asked).rows
    assert row["implausible_points"] == [[0.1, 0.1]] and row["misaligned_points"] == []
    assert row["scores"] == {"overall": 5} and row["misaligned_words"] == [0]


def test_spans_count_characters_or_as_before_utf_16_units():
    prompt = "a 💩 cat"
    assert find_span(prompt, 4, 7, "cat") == (4, 7)
    assert find_span(prompt, 5, 8, "cat") == (4, 7)
    assert find_span(prompt, 2, 4, "💩") == (2, 3)
    assert find_span(prompt, "4", 7, None) == (4, 7)
    for start, end, text in ((3, 6, "cat"), (7, 4, None), (0, 99, None), (-1, 2, None)):
        with pytest.raises(ValueError, match="expected"):
            find_span(prompt, start, end, text)


@pytest.mark.parametrize(
    ("task", "error"),
    [
        (_task(_annotation(_point(101, 5))), "entry 0, keypointlabels 'kp': field 'x'"),
        (_task(_annotation(_point(5, None))), "field 'y': expected 0 to 100"),
        (_task(_annotation(_point(1, 1, image_rotation=90))), "field 'image_rotation'"),
        (_task(_annotation(_point(1, 1, original_width=0))), "field 'original_width'"),
        (_task(_annotation(_point(1, 1, original_height=900))), "is it another image"),
        (_task(_annotation(_rating("overall", 7))), "field 'scores': expected answers"),
        (_task(_annotation(_rating("overall", "7"))), "field 'rating': expected a num"),
        (_task(_annotation(_span(1, 2, "x"))), "expected 'x' there"),
        (_task(_annotation(_span(1, 2))), "has no word of the prompt"),
        (_task(_annotation("x")), "entry 0, expected an object"),
        (_task(_annotation(result={})), "field 'result': expected a list"),
        (_task(_annotation(_point(1, 1), completed_by=None)), "--rater=NAME"),
        (_task(_annotation({"type": "rectanglelabels", "from_name": "r", "value":
                            {"rectanglelabels": ["implausible"]}})),
         "expected keypointlabels, got rectanglelabels"),
        (_task(_annotation(), data={"image": "dog.png"}), "no such file"),
        (_task(_annotation(), data=3), "field 'data'"),
        (_task(_annotation(), data={"text": "x"}), "--image_column names"),
        (_task(annotations=3), "field 'annotations'"),
    ],
)  # fmt: skip
def test_mistakes_name_file_task_and_field(folder, task, error):
    with pytest.raises(rating_files.RatingsError) as raised:
        _import(folder, [_task(id=6), task])
    assert "project.json: 1 mistake" in str(raised.value)
    assert "task 7" in str(raised.value) and error in str(raised.value)


@pytest.mark.parametrize("tasks", [[], {}, [{"id": 1, "image": "x"}], 3])
def test_other_files_are_refused(folder, tasks):
    with pytest.raises(ValueError, match="expected a list of tasks"):
        _import(folder, tasks)


def test_one_person_has_one_answer_to_an_image(folder):
    other = _task(_annotation(_point(1, 1)), id=9, data={"image": "cat.png"})
    with pytest.raises(rating_files.RatingsError, match="already rated 'cat.png'"):
        _import(folder, [_task(_annotation(_point(1, 1))), other])


def test_no_answer_at_all_writes_nothing(folder):
    with pytest.raises(ValueError, match="no ratings were found.*1 tasks without"):
        _import(folder, [_task()])


def _round_trip(folder, rows, change=lambda tasks: None):
    """jsonl -> label_studio -> jsonl; returns the rows."""
    first, second = folder / "first.jsonl", folder / "second.json"
    first.write_text("".join(json.dumps(row) + "\n" for row in rows))
    ratings = rated_rows.from_file(first, folder)
    assert exporting.write(ratings, second, "label_studio") == len(rows)
    tasks = json.loads(second.read_text())
    change(tasks)
    return _import(folder, tasks).rows


@pytest.mark.parametrize("seed", range(5))
def test_a_round_trip_changes_no_value(tmp_path, seed):
    rows = raters_files.make_rows(seed, points=20)
    raters_files.write_images(tmp_path)
    again = _round_trip(tmp_path, copy.deepcopy(rows))
    assert again == rows
    assert json.dumps(again, sort_keys=True) == json.dumps(rows, sort_keys=True)


def _forget(tasks):
    for task in tasks:
        for annotation in task["annotations"]:
            for result in annotation["result"]:
                result.pop("meta", None)
            annotation["completed_by"] = 1


def test_without_meta_the_standard_fields_say_the_same(tmp_path):
    raters_files.write_images(tmp_path)
    rows = raters_files.make_rows(1)
    again = {(r["image"], r["rater"]): r for r in _round_trip(tmp_path, rows, _forget)}
    exact = 0
    for row in rows:
        found = again.pop((row["image"], str(row["rater"])))
        for field in ("prompt", "misaligned_words", "split", "guess_shown"):
            if row.get(field):
                assert found[field] == row[field]
        scores = {k: v for k, v in row["scores"].items() if v is not None}
        assert found.get("scores") == scores
        for field in ("implausible_points", "misaligned_points"):
            for (x, y), (a, b) in zip(row.get(field, []), found[field], strict=True):
                width, height = raters_files.SIZES[row["image"]]
                assert abs(x - a) < 1e-15 and abs(y - b) < 1e-15
                for share, back, side in ((x, a, width), (y, b, height)):
                    if round(share * side, 3) / side == share:  # as from the page
                        assert back == share
                        exact += 1
    assert not again and exact > 20


def test_what_was_changed_in_between_counts(tmp_path):
    raters_files.write_images(tmp_path)
    rows = raters_files.make_rows(2)

    def move(tasks):
        [first, *_] = tasks[0]["annotations"]
        point = next(r for r in first["result"] if r["type"] == "keypointlabels")
        point["value"] |= {"x": 50, "y": 10}
        tasks[0]["annotations"][1]["lead_time"] = 3

    again = _round_trip(tmp_path, rows, move)
    ids = [(row["image"], str(row["rater"])) for row in again]
    assert sorted(ids) == sorted((row["image"], str(row["rater"])) for row in rows)
    changed = [row for row in again if row not in rows]
    assert len(changed) == 2
    assert any([0.5, 0.1] in row["implausible_points"] for row in changed) or any(
        [0.5, 0.1] in row["misaligned_points"] for row in changed
    )
    assert 3 in [row["seconds"] for row in changed]


def test_a_workdir_s_answers_and_skips(tmp_path):
    Image.new("RGB", (49, 30)).save(tmp_path / "a.png")
    with store.open_store(tmp_path / "w") as opened:
        task = RatingTask(image="a.png", prompt=PROMPT)
        opened.add_images([(task, 49, 30)], raters=3)
        label = Feedback(implausible_points=((1.0, 7.123),), scores={"overall": 2})
        for rater, kind in (("r1", "answer"), ("r2", "skip")):
            opened.add_rater(rater)
            id_ = take(opened, rater, AssignmentRules())
            assert id_
            reason = "dark" if kind == "skip" else None
            event = store.Event(id="e", kind=kind, reason=reason,
                                label=None if reason else label)  # fmt: skip
            opened.save(id_, rater, [event], lease=9)
        answers = list(opened.answers())
    tasks = label_studio.make_tasks(rated_rows.from_answers(answers))
    assert [a["was_cancelled"] for a in tasks[0]["annotations"]] == [False, True]
    found = _import(tmp_path, tasks)
    assert found.rows == [answers[0].row()]
    assert found.counts == {"skipped or cancelled annotations": 1}
    found = _import(tmp_path, [task | {"meta": {}} for task in tasks])
    assert found.rows == [answers[0].row()]


def test_the_interface_of_the_docs_has_every_control():
    text = (ROOT / "docs/annotate.md").read_text("utf-8")
    view = ElementTree.fromstring(re.findall(r"<View>.*?</View>", text, re.DOTALL)[0])
    controls = {one.get("name"): one for one in view if one.get("toName")}
    used = set()
    nothing = {"rater": "a"} | {field: [] for field in FIELDS}
    for row in [*raters_files.make_rows(), nothing]:
        for result in make_result(row, width=9, height=9):
            control = controls[result["from_name"]]
            assert control.get("toName") == result["to_name"]
            assert control.tag.lower() == result["type"]
            labels = {one.get("value") for one in control}
            given = result["value"].get(result["type"], [])
            assert not isinstance(given, list) or set(given) <= labels
            used.add(result["from_name"])
    assert used == controls.keys()


def test_images_may_be_elsewhere_for_label_studio(tmp_path):
    rows = raters_files.make_rows(3)
    raters_files.write_images(tmp_path)

    def move(tasks):
        for task in tasks:
            task["data"]["image"] = f"/data/local-files/?d=x/{task['data']['image']}"

    assert _round_trip(tmp_path, rows, move) == rows
    first = tmp_path / "first.jsonl"
    ratings = rated_rows.from_file(first, tmp_path)
    made = label_studio.make_tasks(ratings, image_prefix="s3://bucket/")
    assert made[0]["data"]["image"] == "s3://bucket/a.png"
    assert _import(tmp_path, made).rows == rows


def test_an_image_has_one_prompt_and_one_split(folder):
    other = _task(_annotation(_point(1, 1), completed_by=4), id=9)
    other["data"] = other["data"] | {"prompt": "another"}
    with pytest.raises(rating_files.RatingsError, match="task 9.*'prompt': 'another'"):
        _import(folder, [_task(_annotation(_point(1, 1))), other])
    task = _task(_annotation(_point(1, 1)))
    task["data"]["split"] = "Validation"
    assert _import(folder, [task]).rows[0]["split"] == "dev"
    task["data"]["split"] = "later"
    with pytest.raises(rating_files.RatingsError, match="field 'split': expected"):
        _import(folder, [task])


def test_what_label_studio_1_23_wrote_of_a_person_s_clicks(folder):
    tasks = json.loads((FIXTURES / "label_studio_1_23.json").read_text("utf-8"))
    [row] = _import(folder, tasks).rows
    [point] = row.pop("implausible_points")
    assert point == pytest.approx([0.25, 0.5], abs=1e-3)  # of the pixel clicked
    assert row == {
        "image": "cat.png",
        "prompt": "a 💩 yellow cat",
        "rater": "1",
        "misaligned_words": [2],
        "scores": {"plausibility": 2, "overall": 5},
        "seconds": 10.946,
    }
