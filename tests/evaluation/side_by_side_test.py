"""Verdicts and shares against a worked example, and margins against the raters."""

import itertools

import numpy as np
import pytest

from rahf.datasets.scenes import Scenes, raters
from rahf.datasets.scenes.dice import Dice
from rahf.evaluation import side_by_side
from rahf.evaluation.side_by_side import MARGINS, VERDICTS, Margins, compare_sides


def test_the_margins_are_those_of_the_raters():
    scenes = Scenes("train", 64, difficulty="simple", num_examples=600)
    ratings = [
        raters.rate(Dice("raters", 0, "train", "simple", i), scenes.describe(i))
        for i in range(len(scenes))
    ]
    found = side_by_side.measure_disagreement(ratings)
    assert found == pytest.approx(side_by_side.DISAGREEMENT, abs=0.006)
    # A second implementation: of all pairs, score by score, on the Likert scale.
    squares = [
        (a["scores"][name] - b["scores"][name]) ** 2
        for three in ratings
        for a, b in itertools.combinations(three, 2)
        for name in a["scores"]
    ]
    assert found == pytest.approx((sum(squares) / len(squares)) ** 0.5 / 4)
    assert Margins(0.12, 0.29) == MARGINS
    with pytest.raises(ValueError, match="two raters"):
        side_by_side.measure_disagreement([[{"scores": {"overall": 3}}]])


@pytest.mark.parametrize(
    ("after", "verdict"),
    [
        (0.80, "significantly_better"),
        (0.79, "significantly_better"),  # a difference of the margin itself
        (0.78, "slightly_better"),
        (0.62, "slightly_better"),
        (0.61, "same"),
        (0.50, "same"),
        (0.39, "same"),
        (0.38, "slightly_worse"),
        (0.22, "slightly_worse"),
        (0.21, "significantly_worse"),
    ],
)
def test_verdicts(after, verdict):
    [kind] = side_by_side.judge(np.array([0.5]), np.array([after]))
    assert VERDICTS[kind] == verdict


def test_shares_by_hand():
    # Prompt "a": better by far, slightly worse; "b": the same twice; "c": slightly better.
    before = [0.2, 0.5, 0.5, 0.5, 0.5]
    after = [0.8, 0.3, 0.55, 0.45, 0.7]
    found = compare_sides(before, after, ["a", "a", "b", "b", "c"])
    assert (found.pairs, found.prompts) == (5, 3)
    shares = {name: each.value for name, each in found.shares.items()}
    assert shares == pytest.approx(
        {
            "significantly_better": 1 / 6,  # half of the pairs of one of three prompts
            "slightly_better": 1 / 3,
            "same": 1 / 3,
            "slightly_worse": 1 / 6,
            "significantly_worse": 0,
        }
    )
    assert found.better_minus_worse.value == pytest.approx(1 / 3)
    assert found.difference.value == pytest.approx((0.2 + 0 + 0.2) / 3)
    assert found.as_json()["same"]["value"] == 0.333333


def test_the_interval_is_over_prompts():
    """Pairs of a prompt that all agree are no more evidence than one of them."""
    rng = np.random.default_rng(0)
    gains = rng.normal(0.05, 0.2, 60)
    once = compare_sides(np.full(60, 0.5), 0.5 + gains, range(60))
    many = compare_sides(
        np.full(480, 0.5), 0.5 + np.repeat(gains, 8), np.repeat(range(60), 8)
    )
    assert many.shares == once.shares
    assert many.better_minus_worse == once.better_minus_worse
    low, high = once.better_minus_worse.low, once.better_minus_worse.high
    assert low < once.better_minus_worse.value < high
    # The bootstrap's interval of a mean is about its standard error, twice.
    error = np.std(np.sign(2 - side_by_side.judge(np.full(60, 0.5), 0.5 + gains)))
    assert high - low == pytest.approx(2 * 1.96 * error / 60**0.5, rel=0.15)


def test_swapping_the_sides_swaps_the_verdicts():
    rng = np.random.default_rng(1)
    one, other = rng.random((2, 50)).round(6)
    there = compare_sides(one, other, range(50))
    back = compare_sides(other, one, range(50))
    values = lambda found: [found.shares[name].value for name in VERDICTS]
    assert values(back) == pytest.approx(values(there)[::-1])
    assert back.better_minus_worse.value == -there.better_minus_worse.value
    same = compare_sides(one, one, range(50))
    assert same.shares["same"].value == same.shares["same"].low == 1


def test_bad_input():
    for args in (([0.5], [0.5, 0.6], ["a"]), ([], [], [])):
        with pytest.raises(ValueError, match="as many of each"):
            compare_sides(*args)
    with pytest.raises(ValueError, match="finite"):
        compare_sides([0.5], [float("nan")], ["a"])
    for text in ("0.1", "0.3,0.1", "0,0.1", "a,b", "nan,1"):
        with pytest.raises(ValueError, match="margins"):
            side_by_side.parse_margins(text)
    assert side_by_side.parse_margins("0.1,0.2") == Margins(0.1, 0.2)
