"""Word metrics against scikit-learn, and the two conventions where they differ."""

import dataclasses

import numpy as np
import pytest
import sklearn.metrics

from rahf import targets
from rahf.evaluation.metrics.words import (
    WordMetrics,
    average_precision,
    precision_recall_f1,
)

TARGET = targets.select(targets.FEEDBACK, targets.Kind.WORDS)[0]
THRESHOLD = TARGET.threshold


def batch(n=9, t=12, seed=0):
    rng = np.random.default_rng(seed)
    ends = (rng.random((n, t)) < 0.6).astype(np.int32)
    ends[:, 0] = 1
    labels = ends * (rng.random((n, t)) < 0.3)
    labels[3] = 0
    # Two decimals make ties; pieces inside a word hold 0, as the model gives.
    prediction = (rng.random((n, t)).round(2) * ends).astype(np.float32)
    return prediction, (ends, labels.astype(np.int32))


def accumulate(prediction, truth, convention="rahf", weights=None):
    state = WordMetrics.empty(TARGET, convention=convention)
    state.update(prediction, truth, weights)
    return state


def test_micro_mean_and_average_precision_against_scikit_learn():
    prediction, (ends, labels) = batch()
    values = accumulate(prediction, (ends, labels), "richhf").compute()
    at = ends > 0
    marked = prediction > THRESHOLD
    pooled = sklearn.metrics.precision_recall_fscore_support(
        labels[at], marked[at], average="binary"
    )
    for name, expected in zip(("precision", "recall", "f1"), pooled, strict=False):
        assert values[f"{name}_micro"] == pytest.approx(expected)
    each = [
        sklearn.metrics.precision_recall_fscore_support(
            labels[i][at[i]], marked[i][at[i]], average="binary", zero_division=0
        )[:3]
        for i in range(len(ends))
    ]
    for column, name in enumerate(("precision", "recall", "f1")):
        assert values[f"{name}_mean"] == pytest.approx(np.mean(each, 0)[column])
    assert values["average_precision"] == pytest.approx(
        sklearn.metrics.average_precision_score(labels[at], prediction[at])
    )
    assert values["n"] == 9
    assert values["n_words"] == at.sum()
    assert values["n_misaligned"] == labels.sum()


def test_a_perfect_answer_when_nothing_is_misaligned():
    ends = np.array([[1, 1, 0], [1, 0, 1]])
    labels = np.array([[0, 0, 0], [1, 0, 0]])
    prediction = np.array([[0.1, 0.2, 0.0], [0.9, 0.0, 0.3]])
    ours = accumulate(prediction, (ends, labels)).compute()
    theirs = accumulate(prediction, (ends, labels), "richhf").compute()
    assert (ours["f1_mean"], theirs["f1_mean"]) == (1.0, 0.5)
    assert ours["f1_micro"] == theirs["f1_micro"] == 1.0
    assert precision_recall_f1(0, 0, 0) == (1, 1, 1)
    assert precision_recall_f1(0, 0, 0, convention="richhf") == (0, 0, 0)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ((0, 2, 0), (0, 0, 0)),
        ((0, 0, 2), (0, 0, 0)),
        ((1, 1, 0), (0.5, 1, 2 / 3)),
        ((1, 0, 3), (1, 0.25, 0.4)),
    ],
)
def test_ratios_by_hand(counts, expected):
    assert precision_recall_f1(*counts) == pytest.approx(expected)


def test_a_tie_reads_as_aligned():
    ends, labels = np.ones((1, 2), int), np.array([[1, 1]])
    row = accumulate(np.array([[THRESHOLD, THRESHOLD + 1e-4]]), (ends, labels)).rows[0]
    assert (row["hits"], row["misses"]) == (1, 1)


@pytest.mark.parametrize(("threshold", "cut"), [(0.0, 0.0), (None, 0.5), (0.9, 0.9)])
def test_the_cut_is_the_rows_threshold_be_it_zero(threshold, cut):
    row = dataclasses.replace(TARGET, threshold=threshold)
    assert row.cut == cut
    state = WordMetrics.empty(row)
    ends = labels = np.ones((1, 3), int)
    state.update(np.array([[0.0, cut, cut + 1e-6]]), (ends, labels))
    assert (state.rows[0]["hits"], state.rows[0]["misses"]) == (1, 2)


@pytest.mark.parametrize("levels", [2, 5, 1000])
def test_average_precision_with_ties(levels):
    rng = np.random.default_rng(levels)
    scores = rng.integers(0, levels, 60) / levels
    labels = (rng.random(60) < 0.3).astype(int)
    assert average_precision(scores, labels) == pytest.approx(
        sklearn.metrics.average_precision_score(labels, scores)
    )


def test_average_precision_needs_a_misaligned_word():
    with pytest.raises(ValueError, match="at least one misaligned word"):
        average_precision(np.array([0.2]), np.array([0]))


def test_only_word_ends_count():
    prediction, (ends, labels) = batch()
    expected = accumulate(prediction, (ends, labels)).compute()
    noisy = np.where(ends > 0, prediction, 0.99)
    assert accumulate(noisy, (ends, labels)).compute() == expected


def test_batching_merging_and_weights_change_no_bit():
    prediction, (ends, labels) = batch()
    weights = np.array([1, 1, 0, 1, 0, 1, 1, 1, 0])
    kept = weights > 0
    whole = accumulate(prediction[kept], (ends[kept], labels[kept])).compute()
    prediction[~kept] = np.nan
    for size in (1, 2, 9):
        parts = WordMetrics.empty(TARGET)
        for i in range(0, 9, size):
            at = slice(i, i + size)
            part = accumulate(
                prediction[at], (ends[at], labels[at]), weights=weights[at]
            )
            parts = parts.merge(part)
        assert parts.compute() == whole


def test_no_examples_an_empty_prompt_and_no_misaligned_word():
    assert WordMetrics.empty(TARGET).compute() == {
        "n": 0,
        "n_words": 0,
        "n_misaligned": 0,
    }
    nothing = np.zeros((1, 4), int)
    values = accumulate(np.zeros((1, 4)), (nothing, nothing)).compute()
    assert values["f1_micro"] == values["f1_mean"] == 1
    assert "average_precision" not in values
    assert values["n_words"] == 0


def test_errors_name_the_example():
    state = WordMetrics.empty(TARGET)
    ones = np.ones((1, 2), int)
    with pytest.raises(ValueError, match=f"example u7 of target {TARGET.name}: 1 of"):
        state.update(np.array([[0.2, np.nan]]), (ones, ones), names=["u7"])
    with pytest.raises(ValueError, match="one shape"):
        state.update(np.zeros((1, 3)), (ones, ones))
