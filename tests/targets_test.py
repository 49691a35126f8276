"""A word is called misaligned above one number, the row's, wherever it is asked."""

import dataclasses

import numpy as np
import pytest

from rahf import targets
from rahf.evaluation import split
from rahf.inference.predictor import Predictor
from rahf.t5x.writer import Writer

[NAME] = [row.name for row in targets.select(targets.FEEDBACK, targets.Kind.WORDS)]


@pytest.fixture(params=[0.0, None, 0.9])
def row(request, monkeypatch):
    row = dataclasses.replace(targets.get(NAME), threshold=request.param)
    monkeypatch.setitem(targets._TABLE, NAME, row)
    return row


def test_the_cut_is_the_threshold_even_at_zero(row):
    assert row.cut == {0.0: 0.0, None: 0.5, 0.9: 0.9}[row.threshold]


CHANCES = [0.0, 0.25, 0.5, 0.75, 0.9, 1.0]
PROMPT = "a b c d e f"


def test_the_predictor_and_the_writer_of_t5x(row, tmp_path):
    outputs, ends = {NAME: np.array(CHANCES)}, np.ones(6, int)
    prediction = Predictor._prediction(
        None, outputs, ends, prompt=PROMPT, image_size=(1, 1), truncated=False
    )
    expected = [chance > row.cut for chance in CHANCES]
    assert [word.misaligned for word in prediction.words] == expected
    writer = object.__new__(Writer)
    writer._prefixes = {NAME: []}
    example = {"uid": [b"u"], "text": [PROMPT.encode()], "truncated": [False]}
    example |= {"inputs": [], "word_ends": ends}
    line = writer._line(example, outputs, tmp_path)
    assert [word["misaligned"] for word in line["words"]] == expected


def test_the_cards_of_a_report(row):
    example, ends = {}, np.ones((1, 6))
    batch = {"word_ends": ends, "word_labels": ends}
    split._add_words(example, NAME, 0, {NAME: np.array([CHANCES])}, batch)
    assert example["cut"] == row.cut


def test_scores_are_predicted_in_the_order_of_the_table():
    scores = [r.name for r in targets.select(targets.FEEDBACK, targets.Kind.SCORE)]
    outputs = {name: np.float32(0.5) for name in sorted(scores)}  # as jit returns them
    prediction = Predictor._prediction(
        None, outputs, np.zeros(1), prompt="", image_size=(1, 1), truncated=False
    )
    assert list(prediction.scores) == scores != sorted(scores)
