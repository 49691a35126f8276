"""Resampled metrics equal the accumulators' on the images drawn."""

import numpy as np
import pytest
import scipy.stats

from rahf import targets
from rahf.evaluation import resampling
from rahf.evaluation.metrics.table import METRICS, NAMES
from rahf.evaluation.metrics.words import WordMetrics


def rows_of(name, count, convention="rahf", seed=0):
    """Rows of an accumulator on noise with ties, empty maps and prompts without words."""
    rng = np.random.default_rng(seed)
    row = targets.get(name)
    found = METRICS[row.kind].empty(row, convention=convention)
    if row.kind is targets.Kind.SCORE:
        truth = rng.integers(0, 13, count) / 12
        noisy = np.round(truth + rng.normal(0, 0.3, count), 1)
        found.update(noisy, truth)
    elif row.kind is targets.Kind.HEATMAP:
        truth = rng.random((count, 6, 6)) * (rng.random((count, 6, 6)) < 0.2)
        truth[::4] = 0
        found.update(rng.random((count, 6, 6)) + truth, truth)
    else:
        ends = (rng.random((count, 9)) < 0.6).astype(int)
        ends[1] = 0
        labels = ends * (rng.random(ends.shape) < 0.25)
        noisy = np.round(labels * 0.4 + 0.6 * rng.random(ends.shape), 1)
        found.update(noisy, (ends, labels))
    return row, found


@pytest.mark.parametrize("name", ["overall", "misalignment", "misaligned_words"])
@pytest.mark.parametrize("convention", ["rahf", "richhf"])
def test_they_are_the_accumulators(name, convention):
    row, found = rows_of(name, 37, convention)
    weights = resampling.draw(37, 250, seed=3)  # more than are computed at once
    resampled = resampling.measure(row, found.rows, weights, convention)
    assert set(resampled) == set(NAMES[row.kind])
    for number in (0, 120, 249):
        drawn = [
            each
            for each, times in zip(found.rows, weights[number], strict=True)
            for _ in range(times)
        ]
        expected = type(found)(row, convention, drawn).compute()
        for metric, values in resampled.items():
            assert values[number] == pytest.approx(expected[metric], abs=1e-12)


def test_what_a_resample_does_not_define_is_nan():
    row, found = rows_of("misalignment", 8)
    only = np.zeros((1, 8), int)
    only[0, 0] = 8  # an empty map
    resampled = resampling.measure(row, found.rows, only)
    assert np.isnan(resampled["cc"][0]) and not np.isnan(resampled["mse_empty"][0])
    assert np.isnan(resampling.interval(resampled["cc"])).all()
    row, found = rows_of("overall", 8)
    assert resampling.measure(row, found.rows, only)["plcc"][0] == 0  # constant


def test_no_word_at_all():
    row = targets.get("misaligned_words")
    found = WordMetrics.empty(row)
    found.update(np.zeros((2, 3)), (np.zeros((2, 3)), np.zeros((2, 3))))
    resampled = resampling.measure(row, found.rows, np.ones((1, 2), int))
    assert resampled["f1_micro"][0] == 1 and np.isnan(resampled["average_precision"][0])


def test_the_interval_is_scipys():
    row, found = rows_of("overall", 200)
    weights = resampling.draw(200, 4000)
    values = resampling.measure(row, found.rows, weights)["plcc"]
    sides = [
        np.array([each[k] for each in found.rows]) for k in ("prediction", "truth")
    ]
    theirs = scipy.stats.bootstrap(
        sides,
        lambda a, b, axis=-1: scipy.stats.pearsonr(a, b, axis=axis).statistic,
        paired=True,
        vectorized=True,
        n_resamples=4000,
        method="percentile",
        rng=1,
    ).confidence_interval
    assert resampling.interval(values) == pytest.approx(tuple(theirs), abs=0.01)
    assert values.std() == pytest.approx((1 - values.mean() ** 2) / 200**0.5, rel=0.35)


def test_seeds_are_fixed():
    assert (resampling.draw(9, 5, 1) == resampling.draw(9, 5, 1)).all()
    assert (resampling.draw(9, 5, 1) != resampling.draw(9, 5, 2)).any()
