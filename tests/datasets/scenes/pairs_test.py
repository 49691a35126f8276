"""Pairs of scenes: two pictures of one prompt, and simulated raters' choices."""

import numpy as np
import pytest

from rahf.datasets.scenes import Scenes, raters
from rahf.datasets.scenes.dice import Dice
from rahf.datasets.scenes.pairs import ScenePairs, scene_pairs


def test_a_pair_has_one_prompt_and_two_pictures():
    pairs = ScenePairs("train", 64, num_examples=6)
    for index in range(6):
        record = pairs[index]
        other = record["other"]
        assert record["prompt"] == other["prompt"] and record["uid"] != other["uid"]
        assert (record["image"] != other["image"]).any()
        first, second = pairs.describe(index)
        assert first["groups"] == second["groups"]  # one intent
        assert first["objects"] != second["objects"]
        for name in raters.TRUE_SCORES:
            assert record[f"{name}_preference"] in (0, 0.5, 1)


def test_a_record_is_the_same_whenever_it_is_made():
    few, many = (ScenePairs("dev", 64, num_examples=n) for n in (2, 9))
    for a, b in ((few[1], many[1]), (few[-1], few[1])):
        np.testing.assert_array_equal(a["image"], b["image"])
        assert a["other"]["uid"] == b["other"]["uid"]
        assert a["overall_preference"] == b["overall_preference"]


def test_a_scene_without_flaw_dice_is_as_ever():
    """The pictures of scenes do not depend on there being pairs."""
    assert Scenes("train", 64)[0]["scene"] == Scenes("train", 64).describe(0)


def _votes(number, count=400):
    """Of pairs that differ enough: the votes and the true differences."""
    pairs = ScenePairs("train", 64, difficulty="simple", num_examples=count)
    found = []
    for index in range(count):
        scenes = pairs.describe(index)
        vote = raters.compare(Dice("vote", index), scenes, number)["overall"]
        score = raters.TRUE_SCORES["overall"]
        found.append((vote, score(scenes[0]) - score(scenes[1])))
    return np.array(found).T


def test_raters_prefer_the_better_picture():
    votes, apart = _votes(1)
    clear = np.abs(apart) > 0.3  # twice the error of a difference, .15
    assert (votes[clear] == (apart[clear] > 0)).mean() > 0.9
    near = np.abs(apart) < 0.05
    assert (votes[near] == 0.5).mean() > 0.4
    assert 0.4 < votes.mean() < 0.6


def test_several_raters_vote():
    votes, apart = _votes(3)
    assert set(np.round(votes * 6).astype(int)) <= set(range(7))
    assert len(set(votes)) == 7
    assert np.corrcoef(votes, apart)[0, 1] > np.corrcoef(*_votes(1))[0, 1]


def test_random_choices_change_images_about_by_a_coin():
    options = {"image_size": 64, "pairs_of_scenes": {"train_examples": 300}}
    raters_pairs = scene_pairs("train", options)
    options["pairs_of_scenes"]["train_choices"] = "random"
    random_pairs = scene_pairs("train", options)
    assert len(random_pairs) == 300
    changed = []
    for index in range(40):
        one, other = raters_pairs[index], random_pairs[index]
        np.testing.assert_array_equal(one["image"], other["image"])
        votes = (one["overall_preference"], other["overall_preference"])
        assert votes[0] in (votes[1], 1 - votes[1])  # there are as many ties
        if votes[0] != 0.5:
            changed.append(votes[0] != votes[1])
    assert 0.25 < np.mean(changed) < 0.75
    # Dev and test measure, so their choices are the raters'.
    assert scene_pairs("dev", options).choices == "raters"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"raters": 0}, "1 to 27 raters, got 0"),
        ({"train_choices": "mine"}, "unknown choices 'mine'.*raters, random"),
        ({"number": 3}, "pairs_of_scenes has no option number; it has train_examples"),
        ({"train_examples": -1}, "num_examples must be at least 0"),
    ],
)
def test_bad_options(given, message):
    with pytest.raises(ValueError, match=message):
        scene_pairs("train", {"image_size": 64, "pairs_of_scenes": given})
    with pytest.raises(ValueError, match="unknown split 'validation'"):
        scene_pairs("validation", {"image_size": 64})
