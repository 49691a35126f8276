import dataclasses

import numpy as np

from rahf.images import overlays
from rahf.inference import sheets


@dataclasses.dataclass
class Word:
    text: str
    probability: float
    misaligned: bool


@dataclasses.dataclass
class Prediction:
    scores: dict = dataclasses.field(default_factory=dict)
    words: list = dataclasses.field(default_factory=list)
    heatmaps: dict = dataclasses.field(default_factory=dict)
    intervals: dict = dataclasses.field(default_factory=dict)


_IMAGE = np.full((300, 200, 3), (200, 0, 0), np.uint8)


def _draw(prompt="a red cat", **predicted):
    return np.asarray(sheets.draw(_IMAGE, prompt, Prediction(**predicted))).astype(int)


def _is(picture, colour):
    return (np.abs(picture - colour) <= 2).all(-1)


def test_the_image_stands_in_colour_beside_its_overlays():
    heatmaps = {"misalignment": np.zeros((2, 2)), "implausibility": np.ones((2, 2))}
    drawn = _draw(heatmaps=heatmaps)
    red = np.flatnonzero(_is(drawn, (200, 0, 0)).sum(0) > 200)
    assert (red[0], len(red)) == (24, 256)  # enlarged from 200
    row = drawn[100]
    grey = _is(row, row[..., :1]) & ~_is(row, overlays.PAPER)
    # In the order of the table, whatever the order they come in.
    assert np.flatnonzero(grey).min() > 2 * 256


def test_misaligned_words_and_bars_of_scores():
    words = [Word("a", 0.1, False), Word("red", 0.9, True)]  # the last was not read
    drawn = _draw(words=words, scores={"overall": 0.5, "plausibility": 1.0})
    plain = _draw(words=words[:1])
    flaw, bar = sheets._FLAW, sheets._BAR
    assert _is(drawn, flaw).any()
    assert not _is(plain, flaw).any()
    full, rest = (_is(drawn, each).sum(1).max() for each in (bar, sheets._TRACK))
    assert full == 464 + 1  # all of a sheet of 512 pixels between its margins
    assert abs(rest - full / 2) <= 1


def test_intervals_are_said():
    scores = {"overall": 0.5}
    plain = _draw(scores=scores)
    told = _draw(scores=scores, intervals={"overall": (0.4, 0.7)})
    assert plain.shape == told.shape
    assert (plain != told).any()


def test_long_and_absent_prompts():
    long = _draw(prompt="a very long prompt " * 40)
    none = _draw(prompt="")
    assert long.shape[1] == none.shape[1]
    assert long.shape[0] > none.shape[0] + 200


def test_the_truth_stands_beside_what_was_predicted():
    heatmaps = {"implausibility": np.ones((2, 2))}
    alone = _draw(heatmaps=heatmaps)
    found = Prediction(heatmaps=heatmaps)
    beside = sheets.draw(_IMAGE, "a", found, {"implausibility": np.zeros((2, 2))})
    assert beside.width == alone.shape[1] + 256 + 24
