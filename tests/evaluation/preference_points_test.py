"""Points, thresholds and intervals of agreement with human choices."""

import numpy as np
import pytest

from rahf.evaluation import preferences as rules
from rahf.evaluation.preferences import bootstrap, choose_threshold, measure, points


def _pickapic(s0, s1, label, threshold):
    """The published script's rule, for one pair of logits."""
    p0 = 1 / (1 + np.exp(s1 - s0))
    p1 = 1 - p0
    said = "tie" if abs(p1 - p0) <= threshold else "0" if p0 > p1 else "1"
    true = {0.5: "tie", 1.0: "0", 0.0: "1"}[label]
    return 1 if said == true else 0.5 if "tie" in (said, true) else 0


def test_points_and_thresholds_are_those_of_pickapic():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(300, 2)) * 2
    labels = rng.choice([0.0, 0.5, 1.0], 300, p=[0.4, 0.25, 0.35])
    differences = scores[:, 0] - scores[:, 1]
    accuracies = [
        np.mean([_pickapic(*s, y, t) for s, y in zip(scores, labels, strict=True)])
        for t in rules.PICKAPIC_DIFFERENCES
    ]
    for share, expected in zip(rules.PICKAPIC_DIFFERENCES, accuracies, strict=True):
        if share < 1:
            found = points(differences, labels, 2 * np.arctanh(share)).mean()
            assert found == pytest.approx(expected, abs=1e-12)
    chosen = choose_threshold(differences, labels, candidates="pickapic")
    best = rules.PICKAPIC_DIFFERENCES[int(np.argmax(accuracies))]
    assert np.tanh(chosen / 2) == pytest.approx(best)


def test_the_threshold_is_the_best_there_is():
    rng = np.random.default_rng(1)
    for _ in range(20):
        differences = rng.integers(-4, 5, 40) / 4  # with equal ones, and zeros
        labels = rng.choice([0.0, 0.5, 1.0], 40)
        tried = np.unique([0, *np.abs(differences)])
        means = [points(differences, labels, t).mean() for t in tried]
        assert choose_threshold(differences, labels) == tried[int(np.argmax(means))]


def test_the_interval_covers_and_keeps_prompts_together():
    rng = np.random.default_rng(2)
    covered = 0
    for seed in range(40):
        values = (rng.random(200) < 0.7).astype(float)
        low, high = bootstrap(values, np.arange(200), resamples=200, seed=seed)
        covered += low <= 0.7 <= high
        assert 0.08 < high - low < 0.17  # by the normal formula .127
    assert covered >= 34
    # Twenty copies of each pair say nothing new, if they are of one prompt.
    values = (rng.random(50) < 0.7).astype(float)
    alone = bootstrap(values, np.arange(50))
    copies = bootstrap(np.repeat(values, 20), np.repeat(np.arange(50), 20))
    assert copies == pytest.approx(alone, abs=1e-12)
    with pytest.raises(ValueError, match="no labelled pairs"):
        measure(np.zeros(0), np.zeros(0), np.zeros(0, str))
    with pytest.raises(ValueError, match="1 of 2 differences"):
        measure(np.array([1, np.nan]), np.ones(2), np.array(["a", "b"]))
