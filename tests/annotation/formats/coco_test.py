"""COCO keypoints: points in pixels, exactly those that were clicked."""

import json

import pytest

from rahf.annotation.formats import coco, exporting, rated_rows
from rahf.annotation.records import Answer, Feedback
from tests.support import raters_files

LABEL = Feedback(
    implausible_points=((1.0, 7.123), (49.0, 0.0)), misaligned_points=((11.5, 15.0),)
)


def _answer(**fields):
    rest = {"image": "a.png", "prompt": "a cat", "rater": "r1", "label": LABEL}
    return Answer(**(rest | {"width": 49, "height": 30} | fields))


def test_an_annotation_for_each_point():
    skipped = _answer(rater="r2", label=None, skipped="dark")
    nothing = _answer(rater="r3", image="b.png", label=Feedback(nothing_wrong=True))
    made = coco.make(rated_rows.from_answers([_answer(), skipped, nothing]))
    assert made["images"] == [
        {"id": n, "file_name": f, "width": 49, "height": 30, "prompt": "a cat"}
        for n, f in ((1, "a.png"), (2, "b.png"))
    ]
    names = {c["id"]: c["name"] for c in made["categories"]}
    assert [c["keypoints"] for c in made["categories"]] == [["place"], ["place"]]
    assert [(names[a["category_id"]], a["keypoints"]) for a in made["annotations"]] == [
        ("implausible", [1.0, 7.123, 2]),
        ("implausible", [49.0, 0.0, 2]),
        ("misaligned", [11.5, 15.0, 2]),
    ]
    first = made["annotations"][0]
    assert (first["id"], first["image_id"], first["rater"]) == (1, 1, "r1")
    assert (first["num_keypoints"], first["iscrowd"]) == (1, 0)
    assert first["segmentation"][0][:2] == first["bbox"][:2]
    assert [*first["bbox"], first["area"]] == pytest.approx([0, 5.623, 2.5, 3, 7.5])


def test_from_a_file_it_is_the_same_as_from_the_workdir(tmp_path):
    raters_files.write_images(tmp_path)
    answer = _answer()
    (tmp_path / "r.jsonl").write_text(json.dumps(answer.row()) + "\n")
    direct = coco.make(rated_rows.from_answers([answer]))
    exporting.write(
        rated_rows.from_file(tmp_path / "r.jsonl", tmp_path), tmp_path / "c", "coco"
    )
    assert json.loads((tmp_path / "c").read_text()) == direct
