"""Heatmap metrics against a worked example, scikit-learn, SciPy and a plain loop."""

import dataclasses

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics

from rahf import targets
from rahf.evaluation.metrics import heatmaps as hm

TARGET = targets.select(targets.FEEDBACK, targets.Kind.HEATMAP)[0]


def worked_example():
    prediction = np.arange(12).reshape(3, 4) / 11
    truth = np.zeros((3, 4))
    truth[2, 3], truth[2, 1], truth[0, 2] = 1, 0.5, 0.25
    return prediction, truth


@pytest.mark.parametrize(
    ("metric", "convention", "expected"),
    [
        (hm.auc_judd, "rahf", 0.833333),
        (hm.auc_judd, "richhf", 0.740741),
        (hm.nss, "rahf", 0.531085),
        (hm.nss, "richhf", 0.508475),
        (hm.cc, "rahf", 0.518459),
        (hm.cc, "richhf", 0.518459),
        (hm.sim, "rahf", 0.333333),
        (hm.sim, "richhf", 0.333333),
        (hm.kld, "rahf", 1.1369295),
        (hm.kld, "richhf", 1.1369295),
    ],
)
def test_worked_example(metric, convention, expected):
    value = metric(*worked_example(), convention=convention)
    assert value == pytest.approx(expected, abs=6e-7)


def judd_by_loop(prediction, truth, extra):
    """The definition, one count per distinct threshold."""
    fixated = truth > 0
    points = [(0.0, 0.0)]
    for threshold in sorted(set(prediction[fixated]), reverse=True):
        hits = np.sum(prediction[fixated] >= threshold)
        alarms = np.sum(prediction[~fixated] >= threshold) + extra
        points.append((alarms / np.sum(~fixated), hits / np.sum(fixated)))
    x, y = np.array([*points, (1.0, 1.0)]).T
    return np.trapezoid(y, x)


@pytest.mark.parametrize("levels", [3, 10, 100_000])
@pytest.mark.parametrize("convention", ["rahf", "richhf"])
def test_auc_judd_equals_the_definition_ties_included(levels, convention):
    rng = np.random.default_rng(levels)
    for _ in range(10):
        prediction = rng.integers(0, levels, (13, 9)) / levels
        truth = rng.random((13, 9)) * (rng.random((13, 9)) < 0.2)
        assert hm.auc_judd(prediction, truth, convention=convention) == pytest.approx(
            judd_by_loop(prediction, truth, convention == "richhf"), abs=1e-12
        )


def test_auc_judd_is_the_roc_area_when_every_value_is_fixated():
    """Judd's curve skips thresholds that no fixation has; here there are none."""
    rng = np.random.default_rng(5)
    prediction = rng.integers(0, 10, (8, 12)) / 10
    truth = (rng.random((8, 12)) < 0.3).astype(float)
    prediction[0, :10], truth[0, :10] = np.arange(10) / 10, 0.5
    expected = sklearn.metrics.roc_auc_score((truth > 0).ravel(), prediction.ravel())
    assert hm.auc_judd(prediction, truth) == pytest.approx(expected, abs=1e-12)


def test_auc_judd_ignores_monotone_changes_and_needs_no_quadratic_time():
    rng = np.random.default_rng(0)
    prediction, truth = rng.random((512, 512)), rng.random((512, 512))
    truth[rng.random((512, 512)) < 0.5] = 0  # 131,072 fixations
    assert hm.auc_judd(prediction, truth) == hm.auc_judd(prediction**3, truth)


def test_against_scipy_and_direct_formulas():
    rng = np.random.default_rng(1)
    p = rng.random((17, 23))
    q = rng.random((17, 23)) * (rng.random((17, 23)) < 0.4)
    assert hm.cc(p, q) == pytest.approx(
        scipy.stats.pearsonr(p.ravel(), q.ravel()).statistic, abs=1e-12
    )
    assert hm.nss(p, q) == pytest.approx(
        scipy.stats.zscore(p, axis=None)[q > 0].mean(), abs=1e-12
    )
    assert hm.nss(p, q, convention="richhf") == pytest.approx(
        scipy.stats.zscore(p, axis=None, ddof=1)[q > 0].mean(), abs=1e-6
    )
    assert hm.kld(p, q) == pytest.approx(
        scipy.stats.entropy(q.ravel(), p.ravel()), abs=1e-9
    )
    assert hm.sim(p, q) == pytest.approx(
        1 - np.abs(p / p.sum() - q / q.sum()).sum() / 2, abs=1e-12
    )
    assert hm.mse(p, q) == pytest.approx(np.mean((p - q) ** 2))


@pytest.mark.parametrize("convention", ["rahf", "richhf"])
def test_constant_zero_full_and_single_pixel_maps(convention):
    _, truth = worked_example()
    how = {"convention": convention}
    # 0.1 has a mean that rounds: a naive deviation would be 1e-17, not 0.
    for constant in (np.full((3, 4), 0.1), np.zeros((3, 4))):
        assert hm.nss(constant, truth, **how) == 0
        assert hm.cc(constant, truth, **how) == 0
    assert hm.auc_judd(np.full((3, 4), 0.1), truth) == 0.5
    assert hm.sim(np.zeros((3, 4)), truth, **how) == 0
    eps = 1e-8 if convention == "richhf" else hm.EPSILON
    entropy = scipy.stats.entropy(truth.ravel())
    assert hm.kld(np.zeros((3, 4)), truth, **how) == pytest.approx(
        -np.log(eps) - entropy, abs=1e-4
    )
    assert hm.auc_judd(np.arange(4.0).reshape(2, 2), np.ones((2, 2)), **how) == 0.5
    one = np.array([[0.7]])
    assert hm.nss(one, one, **how) == hm.cc(one, one, **how) == 0
    assert hm.auc_judd(one, one, **how) == 0.5
    assert hm.sim(one, one, **how) == pytest.approx(1, abs=1e-7)
    assert hm.kld(one, one, **how) == pytest.approx(0, abs=1e-7)


def test_a_perfect_map():
    _, truth = worked_example()
    assert hm.cc(truth, truth) == pytest.approx(1)
    assert hm.sim(truth, truth) == pytest.approx(1)
    assert hm.kld(truth, truth) == pytest.approx(0, abs=1e-12)
    assert hm.auc_judd(truth, truth) == 1


def test_what_has_no_meaning_is_an_error():
    prediction, truth = worked_example()
    with pytest.raises(ValueError, match="no pixel above 0"):
        hm.nss(prediction, np.zeros_like(truth))
    with pytest.raises(ValueError, match=r"\(3, 4\) and \(4, 3\)"):
        hm.mse(prediction, truth.T)
    with pytest.raises(ValueError, match="at least one pixel"):
        hm.mse(np.zeros((0, 0)), np.zeros((0, 0)))
    with pytest.raises(ValueError, match="other.*known: rahf, richhf"):
        hm.kld(prediction, truth, convention="other")


def maps(n=7, seed=3):
    rng = np.random.default_rng(seed)
    prediction = rng.random((n, 8, 8)).astype(np.float32)
    truth = (rng.random((n, 8, 8)) * (rng.random((n, 8, 8)) < 0.2)).astype(np.float32)
    truth[2] = truth[5] = 0
    return prediction, truth


def accumulate(prediction, truth, size, weights=None):
    state = hm.HeatmapMetrics.empty(TARGET)
    for i in range(0, len(prediction), size):
        each = None if weights is None else weights[i : i + size]
        state.update(prediction[i : i + size], truth[i : i + size], each)
    return state


def test_counts_and_which_examples_each_mean_is_over():
    prediction, truth = maps()
    values = accumulate(prediction, truth, 7).compute()
    assert (values["n"], values["n_empty"], values["n_nonempty"]) == (7, 2, 5)
    errors = [hm.mse(p, t) for p, t in zip(prediction, truth, strict=True)]
    assert values["mse"] == pytest.approx(np.mean(errors))
    assert values["mse_empty"] == pytest.approx(np.mean([errors[2], errors[5]]))
    filled = [i for i in range(7) if i not in (2, 5)]
    assert values["cc"] == pytest.approx(
        np.mean([hm.cc(prediction[i], truth[i]) for i in filled])
    )


def test_batching_and_merging_change_no_bit():
    prediction, truth = maps()
    whole = accumulate(prediction, truth, 7).compute()
    for size in (1, 2, 3):
        assert accumulate(prediction, truth, size).compute() == whole
    a = accumulate(prediction[:4], truth[:4], 2)
    b = accumulate(prediction[4:], truth[4:], 3)
    assert a.merge(b).compute() == b.merge(a).compute() == whole
    assert a.compute()["n"] == 4  # merging changes neither side
    assert a.merge(hm.HeatmapMetrics.empty(TARGET)).compute() == a.compute()


def test_examples_of_weight_zero_do_not_count_whatever_they_hold():
    prediction, truth = maps()
    weights = np.array([1, 0, 1, 1, 0, 1, 0.5])
    kept = weights > 0
    expected = accumulate(prediction[kept], truth[kept], 9).compute()
    prediction[~kept] = np.nan
    assert accumulate(prediction, truth, 3, weights).compute() == expected


def test_no_examples_and_only_empty_ones():
    assert hm.HeatmapMetrics.empty(TARGET).compute() == {
        "n": 0,
        "n_empty": 0,
        "n_nonempty": 0,
    }
    state = hm.HeatmapMetrics.empty(TARGET)
    state.update(np.full((1, 2, 2), 0.5), np.zeros((1, 2, 2)))
    assert state.compute() == {
        "mse": 0.25,
        "mse_empty": 0.25,
        "n": 1,
        "n_empty": 1,
        "n_nonempty": 0,
    }


def test_errors_name_the_example_and_the_target():
    prediction, truth = (each[:2] for each in maps())
    prediction[1, 0, 0] = np.nan
    state = hm.HeatmapMetrics.empty(TARGET)
    with pytest.raises(ValueError, match=f"second of target {TARGET.name}: 1 of"):
        state.update(prediction, truth, names=["first", "second"])
    with pytest.raises(ValueError, match=r"\(8, 8\), the true map \(4, 8\)"):
        state.update(prediction[:1], truth[:1, :4])
    other = hm.HeatmapMetrics.empty(dataclasses.replace(TARGET, name="another"))
    with pytest.raises(ValueError, match="cannot merge"):
        state.merge(other)
    with pytest.raises(ValueError, match="cannot merge"):
        state.merge(hm.HeatmapMetrics.empty(TARGET, convention="richhf"))
