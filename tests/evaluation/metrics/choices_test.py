"""How often scores agree with choices: by hand, and as the evaluation of pairs has it."""

import numpy as np
import pytest

from rahf import targets
from rahf.evaluation import preferences
from rahf.evaluation.metrics.choices import ChoiceMetrics

ROW = targets.get("overall_preference")


def _choices(*firsts):
    both = [value for first in firsts for value in (first, 1 - first)]
    return np.stack([both, np.zeros(len(both))], axis=1)


def test_points_by_hand():
    metrics = ChoiceMetrics.empty(ROW)
    scores = np.array([0.9, 0.1, 0.4, 0.6, 0.5, 0.5, 0.5, 0.5, 0.7, 0.2])
    choices = _choices(1.0, 1.0, 1.0, 0.5, 0.5)
    metrics.update(scores, choices)
    # Right, wrong, a tie for a choice, a tie for a tie, a choice for a tie.
    assert metrics.compute() == {
        "accuracy": pytest.approx((1 + 0 + 0.5 + 1 + 0.5) / 5),
        "accuracy_without_ties": pytest.approx((1 + 0 + 0.5) / 3),
        "n": 10,
        "n_compared": 5,
    }


def test_rows_without_a_choice_are_left_out_and_batches_do_not_matter():
    rng = np.random.default_rng(0)
    scores, firsts = rng.random(40), rng.choice([0, 0.5, 1], 20)
    choices = _choices(*firsts)
    whole, parts = ChoiceMetrics.empty(ROW), ChoiceMetrics.empty(ROW)
    whole.update(scores, choices)
    for start in range(0, 40, 8):
        part = slice(start, start + 8)
        padded = np.concatenate([scores[part], [0.3, 0.4]])
        labels = np.concatenate([choices[part], np.zeros((2, 2))])
        parts.update(padded, labels, np.array([1.0] * 8 + [0, 0]))
    assert whole.compute() == parts.compute()
    expected = preferences.points(scores[::2] - scores[1::2], firsts).mean()
    assert whole.compute()["accuracy"] == pytest.approx(expected)


def test_nothing_and_what_is_not_finite():
    assert ChoiceMetrics.empty(ROW).compute() == {"n": 0, "n_compared": 0}
    with pytest.raises(ValueError, match="NaN or infinite"):
        ChoiceMetrics.empty(ROW).update(np.array([0.5, np.nan]), _choices(1.0))
