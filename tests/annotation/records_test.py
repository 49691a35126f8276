"""Labels that come from outside are checked; answers become lines of a raters' file."""

import json

import pytest

from rahf.annotation.records import Answer, Feedback, LabelError
from rahf.datasets.ratings import rating_files

SCORES = {"plausibility": 2, "alignment": 4, "aesthetics": 3, "overall": 3}
SIZE = {"prompt": "a yellow cat", "width": 200, "height": 100}


def _answer(**label):
    return Feedback.from_json({"scores": SCORES} | label, complete=True, **SIZE)


def test_a_label_survives_json():
    label = _answer(implausible_points=[[50, 25.5]], misaligned_words=[2, 0])
    assert label.misaligned_words == (0, 2)
    again = json.loads(json.dumps(label.to_json()))
    assert Feedback.from_json(again, complete=True, **SIZE) == label


@pytest.mark.parametrize(
    ("field", "label"),
    [
        ("label", {"colour": 1}),
        ("label", []),
        ("implausible_points", {"implausible_points": [[201, 5]]}),
        ("misaligned_points", {"misaligned_points": [[float("nan"), 5]]}),
        ("misaligned_points", {"misaligned_points": [[True, 5]]}),
        ("misaligned_points", {"misaligned_points": [[1, 5]] * 201}),
        ("misaligned_points", {"misaligned_points": 7}),
        ("misaligned_words", {"misaligned_words": [3]}),
        ("misaligned_words", {"misaligned_words": [True]}),
        ("misaligned_words", {"misaligned_words": [1, 1]}),
        ("scores", {"scores": {"overall": 6}}),
        ("scores", {"scores": {"overall": 2.5}}),
        ("comment", {"comment": "x" * 2001}),
        ("comment", {"comment": "\ud800"}),
        ("nothing_wrong", {"nothing_wrong": 1}),
    ],
)
def test_a_wrong_label_names_its_field(field, label):
    with pytest.raises(LabelError) as error:
        Feedback.from_json(label, complete=False, **SIZE)
    assert error.value.field == field


def test_an_answer_needs_scores_and_a_word_on_flaws():
    assert _answer(nothing_wrong=True).nothing_wrong
    for label, field in (
        ({}, "nothing_wrong"),
        ({"nothing_wrong": True, "misaligned_words": [1]}, "nothing_wrong"),
        ({"nothing_wrong": True, "scores": {"overall": 3}}, "scores"),
    ):
        with pytest.raises(LabelError) as error:
            _answer(**label)
        assert error.value.field == field


def test_rows_are_lines_of_a_raters_file(tmp_path):
    label = _answer(implausible_points=[[50, 50]], misaligned_words=[1], comment="hm")
    answer = Answer(
        image="cat.png", rater="r07", label=label, seconds=41.0, split="train", **SIZE
    )
    path = tmp_path / "ratings.jsonl"
    path.write_text(json.dumps(answer.row()) + "\n")
    [image] = rating_files.read(path)
    assert image.prompt == "a yellow cat" and image.split == "train"
    [rating] = image.ratings
    assert rating["implausible_points"] == [[0.25, 0.5]]
    assert rating["misaligned_words"] == [1] and rating["scores"] == SCORES
    skipped = Answer(image="cat.png", rater="r", label=None, skipped="blurred", **SIZE)
    with pytest.raises(ValueError, match="skipped"):
        skipped.row()
