"""The rules of choosing, on numbers worked out by hand."""

import numpy as np
import pytest

from rahf.applications import selection
from rahf.applications.selection import NothingChosenError, WeightedScores

NAMES = ("p", "a")
#: Prompt 0 has three images, prompt 1 two, prompt 2 one.
PROMPTS = np.array([0, 1, 0, 0, 1, 2], np.int32)
SCORES = np.array(
    [[0.5, 0.9], [0.4, 0.1], [0.9, 0.2], [0.9, 0.6], [0.3, 0.8], [0.6, 0.5]]
)
USABLE = np.ones(6, bool)


def _choose(by="p", threshold=None, require=(), keep=1, share=1.0, usable=USABLE):
    rule = selection.parse_rule(by, threshold, list(require), keep, share)
    names = rule.names()
    columns = [NAMES.index(name) for name in names]
    return selection.choose(rule, names, SCORES[:, columns], PROMPTS, usable)


def _numbers(**rule):
    return np.flatnonzero(_choose(**rule).chosen).tolist()


@pytest.mark.parametrize(
    ("rule", "chosen"),
    [
        ({}, [1, 2, 5]),  # of the equal 2 and 3, the first
        ({"threshold": "0.6"}, [2, 5]),  # at the threshold is enough
        ({"threshold": "0.61"}, [2]),
        ({"keep": 2}, [1, 2, 3, 4, 5]),
        ({"keep": 2, "threshold": "0.5"}, [2, 3, 5]),
        ({"keep": 0}, [0, 1, 2, 3, 4, 5]),
        ({"keep": 0, "share": 0.5}, [2, 3, 5]),
        ({"share": 0.4}, [2, 5]),
        ({"share": 0.01}, [2]),  # at least one
        ({"require": ["a=0.5"]}, [3, 4, 5]),  # the best of those that meet it
        ({"require": ["a=0.5", "p=0.6"]}, [3, 5]),
        ({"by": "p+a"}, [3, 4, 5]),
        ({"by": "0.1*p+a"}, [0, 4, 5]),
        ({"threshold": "auto:1"}, [1, 2, 5]),
        ({"threshold": "auto:0.67"}, [1, 2, 5]),
        ({"threshold": "auto:0.66"}, [2, 5]),
        ({"threshold": "auto:0.3"}, [2]),
    ],
)
def test_rules(rule, chosen):
    assert _numbers(**rule) == chosen


def test_images_out_of_the_question_are_not_counted():
    usable = USABLE.copy()
    usable[[2, 5]] = False
    choice = _choose(usable=usable)
    assert np.flatnonzero(choice.chosen).tolist() == [1, 3]
    assert choice.ranks.tolist() == [2, 1, 0, 1, 2, 0]
    assert choice.curve.prompts == 2


def test_the_threshold_of_a_yield_is_the_one_to_write_down():
    found = _choose(threshold="auto:0.66")
    assert found.threshold == 0.6
    again = _choose(threshold=repr(found.threshold))
    np.testing.assert_array_equal(again.chosen, found.chosen)
    # Of a sum, which is not exact.
    found = _choose(by="0.7*p+0.1*a", threshold="auto:0.66")
    again = _choose(by="0.7*p+0.1*a", threshold=repr(found.threshold))
    assert again.chosen.sum() == 2


def test_the_curve_counts_prompts_and_images():
    curve = _choose(keep=2).curve
    assert curve.at(0.3) == (3, 5)
    assert curve.at(0.6) == (2, 3)
    assert curve.at(0.91) == (0, 0)
    rows = curve.rows()
    assert rows[0] == {"threshold": 0.4, "prompts": 3, "yield": 1.0, "images": 4}
    assert rows[-1] == {"threshold": 0.9, "prompts": 1, "yield": 1 / 3, "images": 2}
    assert [row["threshold"] for row in rows[:3]] == [0.4, 0.45, 0.5]
    assert "66.7%" in curve.table()


def test_a_curve_of_one_value_has_rows():
    usable = np.arange(6) == 5
    assert _choose(usable=usable).curve.rows()[0]["prompts"] == 1


def test_nothing_passes():
    with pytest.raises(NothingChosenError) as error:
        _choose(threshold="0.95", usable=np.arange(6) != 1)
    assert str(error.value) == (
        "no prompt has an image with p of at least 0.95; the best found is 0.9; share "
        "of the 3 prompts that pass a threshold: 0.3: 100.0%, 0.4: 66.7%, 0.5: 66.7%, "
        "0.6: 66.7%, 0.7: 33.3%, 0.8: 33.3%, 0.9: 33.3%"
    )
    with pytest.raises(
        NothingChosenError, match="--require a=0.95; the highest .* 0.9"
    ):
        _choose(require=["a=0.95"])
    with pytest.raises(ValueError, match="2 of 3 prompts wanted, but only 1 have"):
        _choose(require=["a=0.85"], threshold="auto:0.5")


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"by": "p+p"}, "of different scores"),
        ({"by": "-1*p"}, "weights above 0"),
        ({"by": "x*p"}, "weights above 0"),
        ({"by": ""}, "expected a score"),
        ({"threshold": "high"}, "expected a number, or auto:YIELD"),
        ({"threshold": "nan"}, "expected a number, or auto:YIELD"),
        ({"threshold": "auto:0"}, "above 0 and at most 1"),
        ({"threshold": "auto:1.5"}, "above 0 and at most 1"),
        ({"require": ["a"]}, "--require=a: expected NAME=NUMBER"),
        ({"require": ["a=nan"]}, "expected NAME=NUMBER"),
        ({"require": ["a=0", "a=1"]}, "once for each score"),
        ({"share": 0.0}, "--share=0"),
    ],
)
def test_a_malformed_rule(rule, message):
    with pytest.raises(ValueError, match=message):
        _choose(**rule)


def test_sums_are_written_as_they_are_read():
    for text in ("p", "0.7*p+0.3*a", "2*p+a"):
        assert str(WeightedScores.parse(text)) == text


def test_the_control_has_as_many_of_each_prompt():
    prompts = np.repeat(np.arange(50), 8).astype(np.int32)
    values = np.random.default_rng(0).random(400)
    usable = np.arange(400) % 8 != 3
    chosen = (selection.rank_within(prompts, values, usable) == 1) & (prompts % 2 == 0)
    drawn = selection.draw_control(chosen, prompts, usable, seed=1)
    assert not (drawn & ~usable).any()
    np.testing.assert_array_equal(
        np.bincount(prompts[drawn], minlength=50),
        np.bincount(prompts[chosen], minlength=50),
    )
    assert 0 < (drawn & chosen).sum() < 15  # by chance one in seven
    again = selection.draw_control(chosen, prompts, usable, seed=1)
    np.testing.assert_array_equal(drawn, again)
    assert (drawn != selection.draw_control(chosen, prompts, usable, seed=2)).any()


def test_every_place_is_drawn_about_equally_often():
    prompts = np.repeat(np.arange(4000), 4).astype(np.int32)
    chosen = np.arange(16000) % 4 == 0
    drawn = selection.draw_control(chosen, prompts, np.ones(16000, bool), seed=0)
    counts = drawn.reshape(-1, 4).sum(0)
    assert counts.min() > 900  # 1000 expected, with a standard deviation of 27


def test_pairs_of_the_best_and_the_worst():
    choice = _choose()
    assert selection.find_worst(choice, PROMPTS, USABLE) == {1: 4, 2: 0}
    assert selection.find_worst(choice, PROMPTS, USABLE, 0.1) == {1: 4, 2: 0}
    assert selection.find_worst(choice, PROMPTS, USABLE, 0.2) == {2: 0}
    usable = np.array([False, True, True, True, True, True])
    # What is left of prompt 0 is equal, so neither is preferred.
    assert selection.find_worst(choice, PROMPTS, usable & (PROMPTS != 0)) == {1: 4}
    assert selection.find_worst(choice, PROMPTS, usable) == {1: 4}
