"""The error of the check, and how scores agree with it."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from rahf.datasets.scenes import Scenes
from rahf.evaluation import checked_pictures


def test_the_check_is_seldom_wrong_on_true_scenes():
    records = Scenes("dev", 64, difficulty="simple", num_examples=160)
    found = {
        name: each.as_json()
        for name, each in checked_pictures.measure_check(records).items()
    }
    assert found["color"]["decided"] > 0.5
    assert found["color"]["error"] < 0.06
    assert found["picture"]["decided"] > 0.4
    assert found["picture"]["error"] < 0.12
    counts = found["picture"]
    assert counts["yes"] + counts["no"] + counts["undecidable"] == 160


def test_errors_by_hand():
    found = checked_pictures.CheckErrors()
    for answer, truth in (
        ("yes", True),
        ("yes", False),
        ("no", False),
        ("no", True),
        ("no", False),
        ("undecidable", True),
    ):
        found.add(answer, truth)
    numbers = found.as_json()
    assert numbers["decided"] == round(5 / 6, 4)
    assert (numbers["error"], numbers["error_of_yes"]) == (0.4, 0.5)
    assert numbers["error_of_no"] == round(1 / 3, 4)
    assert checked_pictures.CheckErrors().as_json()["error"] == 0


def test_the_truth_of_a_scene():
    scene = {
        "groups": [
            {"color": "red", "count": 2, "words": {"color": 1, "count": 0}},
            {"color": "blue", "count": 1, "words": {"count": 4}},
        ],
        "objects": [
            {"group": 0, "color": "red"},
            {"group": 1, "color": "blue"},
        ],
    }
    assert checked_pictures.true_statements(scene) == {
        (0, "color"): True,
        (0, "count"): False,
        (1, "count"): True,
    }


def test_the_area_under_the_curve_is_that_of_the_images_drawn():
    rng = np.random.default_rng(0)
    values = rng.integers(0, 8, 40) / 8  # with ties
    positive = rng.random(40) < 0.4
    weights = rng.multinomial(40, np.full(40, 1 / 40), size=20)
    found = checked_pictures.weighted_auc(values, positive, weights)
    for auc, row in zip(found, weights, strict=True):
        drawn = np.repeat(np.arange(40), row)
        assert auc == pytest.approx(roc_auc_score(positive[drawn], values[drawn]))
    none = checked_pictures.weighted_auc(values, positive, positive[None] * 1)
    assert np.isnan(none).all()
