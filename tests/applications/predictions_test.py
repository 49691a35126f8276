"""Reading predictions: what is kept, and what is at fault."""

import json

import numpy as np
import pytest

from rahf.applications.predictions import read_predictions
from tests.support import predictions


def test_what_is_kept(tmp_path):
    folder = predictions.write(tmp_path)
    found = read_predictions([folder], ["overall", "alignment"])
    assert found.names == ("overall", "alignment")
    np.testing.assert_array_equal(found.scores[0], [0.5, 0.2])
    # Spaces at the ends of a prompt do not count.
    assert found.prompts.tolist() == [0, 0, 1, 1, 2]
    row = found.row(2)
    assert row["prompt"] == 'a "blue", dog'
    assert row["heatmaps"]["misalignment"] == str(
        folder / "heatmaps/2.misalignment.png"
    )
    assert [row["id"] for row in found.rows([4, 0])] == ["4", "0"]


def test_prompts_differ_by_case_and_inner_spaces(tmp_path):
    scores = {"overall": 0.5}
    rows = [(text, scores) for text in ("a cat", "A cat", "a  cat", "a cat ")]
    found = read_predictions([predictions.write(tmp_path, rows)])
    assert found.prompts.tolist() == [0, 1, 2, 0]


def test_several_files_are_read_in_order(tmp_path):
    one = predictions.write(tmp_path / "one")
    two = predictions.write(tmp_path / "two", predictions.ROWS[4:])
    found = read_predictions([two / "predictions.jsonl", one], ["overall"])
    assert found.prompts.tolist() == [0, 1, 1, 2, 2, 0]
    assert found.row(0)["image"] == str(two / "0.png")
    assert found.row(1)["image"] == str(one / "0.png")
    assert found.digest != read_predictions([one, two], ["overall"]).digest


def test_a_file_that_is_named_twice_counts_once(tmp_path):
    folder = predictions.write(tmp_path / "one")
    predictions.edit(folder, 0, error="damaged")
    alias = tmp_path / "alias"
    alias.symlink_to(folder)
    found = read_predictions([folder, folder / "predictions.jsonl", alias])
    assert (len(found), found.errors, len(found.files)) == (4, 1, 1)


def test_equal_images_of_a_prompt(tmp_path):
    predictions.write(tmp_path)
    first = read_predictions([tmp_path]).row(0)
    predictions.edit(tmp_path, 1, image_sha256=first["image_sha256"])
    # The same picture with another prompt is not a copy.
    predictions.edit(tmp_path, 4, image_sha256=first["image_sha256"])
    found = read_predictions([tmp_path])
    assert found.first.tolist() == [0, 0, 2, 3, 4]
    assert found.distinct.tolist() == [True, False, True, True, True]


def test_without_digests_paths_tell_images_apart(tmp_path):
    rows = [
        {"image": "a.png", "prompt": "x", "scores": {}},
        {"image": "./a.png", "prompt": "x", "scores": {}},
        {"image": "b.png", "prompt": "x", "scores": {}},
    ]
    path = tmp_path / "mine.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))  # no newline at the end
    found = read_predictions([path])
    assert found.first.tolist() == [0, 0, 2]
    assert found.row(2)["id"] == "b"


def test_images_that_predict_could_not_read_are_counted(tmp_path):
    predictions.write(tmp_path)
    predictions.edit(tmp_path, 1, error="damaged", scores=None)
    found = read_predictions([tmp_path], ["overall"])
    assert (len(found), found.errors) == (4, 1)


def _lines(folder):
    return (folder / "predictions.jsonl").read_text()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"scores": {"overall": float("nan")}}, "got nan"),
        ({"scores": {"overall": True}}, "got True"),
        ({"scores": {"overall": "0.5"}}, "got '0.5'"),
        ({"scores": {"other": 0.5}}, "score 'overall': it has other"),
    ],
)
def test_a_score_at_fault(tmp_path, fields, message):
    predictions.write(tmp_path)
    predictions.edit(tmp_path, 2, **fields)
    with pytest.raises(ValueError, match=message) as error:
        read_predictions([tmp_path], ["overall"])
    assert "predictions.jsonl, line 3, id '2'" in str(error.value)
    found = read_predictions([tmp_path], ["overall"], on_error="skip")
    assert (len(found), found.left_out) == (4, 1)
    assert found.row(2)["id"] == "3"


def test_a_last_line_cut_in_half(tmp_path):
    predictions.write(tmp_path)
    path = tmp_path / "predictions.jsonl"
    path.write_text(_lines(tmp_path)[:-20])
    with pytest.raises(ValueError, match="line 5: the last line is cut in half; run"):
        read_predictions([tmp_path])
    found = read_predictions([tmp_path], on_error="skip")
    assert (len(found), found.left_out) == (4, 1)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 6: not valid JSON"),
        ("[]", "line 6: expected {"),
        ('{"prompt": "a", "scores": {}}', "line 6: expected {"),
        ('{"image": "a", "prompt": "a", "scores": 1}', "line 6: field 'scores'"),
    ],
)
def test_a_malformed_line_is_an_error_in_any_case(tmp_path, line, message):
    predictions.write(tmp_path, checkpoint=None, checkpoint_digest=None)
    with (tmp_path / "predictions.jsonl").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(ValueError, match=message):
        read_predictions([tmp_path], on_error="skip")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"checkpoint_digest": "files:2"},
            "with other parameters; scores of different",
        ),
        ({"checkpoint": "/runs/y, step 5", "checkpoint_digest": None}, "/runs/y"),
        ({"checkpoint": "/runs/y", "checkpoint_digest": "arrays:1"}, "/runs/y"),
        ({"checkpoint": None, "checkpoint_digest": None}, "got one of None"),
    ],
)
def test_predictions_of_two_checkpoints(tmp_path, fields, message):
    predictions.write(tmp_path)
    predictions.edit(tmp_path, 3, **fields)
    with pytest.raises(ValueError, match=message) as error:
        read_predictions([tmp_path], on_error="skip")
    assert "line 4: expected predictions of checkpoint" in str(error.value)


def test_a_checkpoint_that_was_moved_is_the_same(tmp_path):
    predictions.write(tmp_path)
    predictions.edit(tmp_path, 3, checkpoint="/moved, step 5")
    assert len(read_predictions([tmp_path])) == 5


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(ValueError, match=r"predictions.jsonl: no such file"):
        read_predictions([tmp_path])
    with pytest.raises(ValueError, match="got ''"):
        read_predictions([""])
    (tmp_path / "predictions.jsonl").write_text("\n")
    with pytest.raises(ValueError, match="no predicted images"):
        read_predictions([tmp_path])


def test_a_file_that_changes_meanwhile(tmp_path):
    predictions.write(tmp_path)
    found = read_predictions([tmp_path])
    (tmp_path / "predictions.jsonl").write_text("x\n")
    with pytest.raises(ValueError, match="has changed since it was read"):
        found.row(3)
