"""Correlations against SciPy; accumulation against all values at once."""

import numpy as np
import pytest
import scipy.stats

from rahf import targets
from rahf.evaluation.metrics.scores import ScoreMetrics, plcc, srcc

TARGET = targets.select(targets.FEEDBACK, targets.Kind.SCORE)[0]


@pytest.mark.parametrize("n", [2, 5, 300])
@pytest.mark.parametrize("levels", [2, 12, 10_000])
def test_against_scipy_ties_included(n, levels):
    rng = np.random.default_rng(n + levels)
    prediction = rng.integers(0, levels, n) / levels
    truth = np.clip(prediction + rng.normal(0, 0.3, n), 0, 1).round(1)
    prediction[0], prediction[-1], truth[0], truth[-1] = 0, 1, 0.2, 0.7
    assert plcc(prediction, truth) == pytest.approx(
        scipy.stats.pearsonr(prediction, truth).statistic, abs=1e-12
    )
    assert srcc(prediction, truth) == pytest.approx(
        scipy.stats.spearmanr(prediction, truth).statistic, abs=1e-12
    )


def test_constant_sides_and_single_values_correlate_with_nothing():
    varied = np.array([0.1, 0.5, 0.2])
    for constant in (np.full(3, 0.1), np.zeros(3)):
        assert plcc(constant, varied) == plcc(varied, constant) == 0
        assert srcc(constant, varied) == 0
    assert plcc(np.array([0.3]), np.array([0.4])) == 0


def test_perfect_and_reversed():
    x = np.array([0.1, 0.4, 0.5, 0.9])
    assert plcc(x, x) == pytest.approx(1)
    assert srcc(x, -(x**3)) == pytest.approx(-1)


def test_bad_input_is_an_error():
    with pytest.raises(ValueError, match="NaN"):
        plcc(np.array([0.1, np.nan]), np.array([0.1, 0.2]))
    with pytest.raises(ValueError, match="at least 1"):
        srcc(np.array([]), np.array([]))
    with pytest.raises(ValueError, match="the same length"):
        plcc(np.zeros(3), np.zeros(2))


def test_correlation_is_over_all_values_not_an_average_of_batches():
    rng = np.random.default_rng(0)
    # Within each batch the prediction runs against the truth; across, with it.
    truth = np.concatenate([rng.random(8) * 0.2, 0.8 + rng.random(8) * 0.2])
    prediction = np.concatenate([0.2 - truth[:8], 1.8 - truth[8:]])
    state = ScoreMetrics.empty(TARGET)
    state.update(prediction[:8], truth[:8])
    assert state.compute()["plcc"] == pytest.approx(-1)
    state.update(prediction[8:], truth[8:])
    assert state.compute()["plcc"] == pytest.approx(
        scipy.stats.pearsonr(prediction, truth).statistic
    )
    assert state.compute()["plcc"] > 0.9
    assert state.compute()["mse"] == pytest.approx(np.mean((prediction - truth) ** 2))


def test_batching_merging_and_weights_change_no_bit():
    rng = np.random.default_rng(1)
    prediction, truth = rng.random((2, 11)).astype(np.float32)
    weights = (rng.random(11) < 0.7).astype(np.float32)
    whole = ScoreMetrics.empty(TARGET)
    whole.update(prediction[weights > 0], truth[weights > 0])
    for size in (1, 4, 11):
        parts = ScoreMetrics.empty(TARGET)
        for i in range(0, 11, size):
            part = ScoreMetrics.empty(TARGET)
            at = slice(i, i + size)
            part.update(prediction[at], truth[at], weights[at])
            parts = parts.merge(part)
        assert parts.compute() == whole.compute()


def test_no_examples_and_nan():
    state = ScoreMetrics.empty(TARGET)
    assert state.compute() == {"n": 0}
    with pytest.raises(ValueError, match=f"prediction in example a of.*{TARGET.name}"):
        state.update(np.array([np.nan]), np.array([0.5]), names=["a"])
    with pytest.raises(ValueError, match="unknown metric convention 'x'"):
        ScoreMetrics.empty(TARGET, convention="x")
