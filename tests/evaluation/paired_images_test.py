"""Pairs of images before and after, and judges that are refused."""

import json

import numpy as np
import pytest

from rahf.evaluation.paired_images import pair_images
from rahf.evaluation.predicted_images import PredictedImages
from tests.support import predictions

PROMPTS = ("a red cat", "a red cat", "a house")


def _side(folder, values=(0.2, 0.5, 0.9), prompts=PROMPTS, **fields):
    rows = [
        (prompt, {"plausibility": value})
        for prompt, value in zip(prompts, values, strict=True)
    ]
    return predictions.write(folder, rows, size=(8, 8), **fields)


def _pair(before, after, **options):
    return pair_images(PredictedImages(before), PredictedImages(after), **options)


def test_pairs_are_found_by_id(tmp_path):
    before, after = _side(tmp_path / "a"), _side(tmp_path / "b", (0.3, 0.4, 0.5))
    lines = (after / "predictions.jsonl").read_text().splitlines()
    (after / "predictions.jsonl").write_text("\n".join(reversed(lines)))
    found = _pair(before, after)
    assert found.prompts == [*PROMPTS]
    one, other = found.scores("plausibility")
    assert one.tolist() == [0.2, 0.5, 0.9]
    assert other.tolist() == [0.3, 0.4, 0.5]
    assert found.unpaired == (0, 0)
    with pytest.raises(ValueError, match="no score 'overall'; it has plausibility"):
        found.scores("overall")


def test_images_without_a_partner(tmp_path):
    before = _side(tmp_path / "a")
    after = _side(tmp_path / "b", (0.3, 0.4), PROMPTS[:2])
    with pytest.raises(ValueError, match=r"1 of .*/a \(2\) and 0 of .*/b; expected"):
        _pair(before, after)
    found = _pair(before, after, on_error="skip")
    assert (len(found.prompts), found.unpaired) == (2, (1, 0))
    for number in range(2):
        predictions.edit(after, number, id=f"other{number}")
    with pytest.raises(ValueError, match=r"3 of .*/a \(0, 1, 2\) and 2 of"):
        _pair(before, after, on_error="skip")


def test_other_prompts(tmp_path):
    before = _side(tmp_path / "a")
    after = _side(tmp_path / "b", prompts=("a red cat", "a dog", "a house "))
    with pytest.raises(ValueError, match="id '1' has prompt 'a red cat' in .*'a dog'"):
        _pair(before, after)
    found = _pair(before, after, on_error="skip")
    assert (found.prompts, found.unpaired) == (["a red cat", "a house"], (1, 1))
    predictions.edit(after, 0, prompt=" ")
    with pytest.raises(ValueError, match="id '0': no prompt"):
        _pair(before, after)


def test_two_judges_are_refused(tmp_path):
    before = _side(tmp_path / "a")
    after = _side(tmp_path / "b", checkpoint_digest="files:2")
    with pytest.raises(ValueError, match="with other parameters; scores of two"):
        _pair(before, after)
    after = _side(tmp_path / "c", checkpoint="/runs/y", checkpoint_digest="arrays:2")
    with pytest.raises(ValueError, match="'/runs/x, step 5', .* by '/runs/y'; scores"):
        _pair(before, after)


@pytest.mark.parametrize(
    ("request_", "refused"),
    [
        ({"made_by": {"checkpoint": "files:1"}}, True),
        ({"made_by": {"checkpoint": "files:2", "generator": "files:1"}}, False),
        ({"made_by": {"chosen_by": ["files:3", "files:1"]}}, True),
        ({"made_by": {"generator": "files:1"}}, False),
        ({"made_by": {"checkpoint": "arrays:1"}}, None),
        ({"command": "select", "control": False}, True),
        ({"command": "select", "control": True}, False),
    ],
)
@pytest.mark.parametrize("deep", [False, True])
def test_the_model_that_chose_is_no_judge(tmp_path, request_, refused, deep):
    before, after = _side(tmp_path / "a"), tmp_path / "b"
    _side(after / "images" if deep else after)
    judged = after / ("images" if deep else "")
    (after / "request.json").write_text(json.dumps(request_))
    (after / "manifest.jsonl").write_text('{"checkpoint_digest": "files:1"}\n')
    if refused:
        with pytest.raises(ValueError, match="had a hand in these images .*/b/"):
            _pair(before, judged)
        found = _pair(before, judged, same_judge=True)
        assert np.array_equal(*found.scores("plausibility"))
        return
    notes = _pair(before, judged).notes
    assert len(notes) == (refused is None)
    if notes:
        assert "cannot be told" in notes[0]


def test_a_damaged_request_is_told(tmp_path):
    before, after = _side(tmp_path / "a"), _side(tmp_path / "b")
    (after / "request.json").write_text("[")
    with pytest.raises(ValueError, match=r"b/request\.json: expected what rahf wrote"):
        _pair(before, after)
