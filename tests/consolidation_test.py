"""Consolidation against examples worked by hand."""

import json

import numpy as np
import pytest

from rahf.data import consolidation


def _rating(**changes):
    scores = dict.fromkeys(("plausibility", "alignment", "aesthetics", "overall"), 3)
    rating = {
        "rater": "r",
        "implausible_points": [],
        "misaligned_points": [],
        "misaligned_words": [],
        "scores": scores,
        "seconds": 10.0,
    }
    return rating | changes


def test_a_point_becomes_a_disk_of_a_twentieth_of_the_height():
    # Around (50, 50) with radius 5, per quadrant: rows of 5, 5, 4, 4 and 2 pixels.
    disk = consolidation.point_map([[[0.5, 0.5]]], size=(100, 100))
    assert disk.dtype == np.float32
    assert disk.sum() == 4 * (5 + 5 + 4 + 4 + 2)
    assert np.array_equal(disk, disk[::-1]) and np.array_equal(disk, disk.T)
    assert disk[45, 50] == 1 and disk[44, 50] == 0


def test_the_radius_follows_the_height_and_x_comes_first():
    disk = consolidation.point_map([[[0.25, 0.5]]], size=(100, 200))
    rows, columns = np.nonzero(disk)
    assert (rows.min(), rows.max()) == (45, 54)
    assert (columns.min(), columns.max()) == (45, 54)


@pytest.mark.parametrize("size", [(64, 64), (96, 200), (333, 77), (512, 512)])
def test_disks_equal_the_definition(size):
    points = np.random.default_rng(0).random((3, 4, 2))
    points[0, :3] = [[0, 0], [1, 1], [1, 0]]  # cut off by the border
    height, width = size
    y = np.arange(height)[:, None] + 0.5
    x = np.arange(width)[None, :] + 0.5
    expected = np.zeros(size)
    for rater in points:
        covered = np.zeros(size, bool)
        for px, py in rater:
            distance = np.hypot(x - px * width, y - py * height)
            covered |= distance <= height / 20
        expected += covered / 3
    actual = consolidation.point_map(points.tolist(), size=size)
    np.testing.assert_allclose(actual, expected, atol=1e-6)


def test_raters_are_averaged_and_one_raters_overlaps_count_once():
    points = [[[0.5, 0.5], [0.5, 0.5], [0.52, 0.5]], [[0.5, 0.5]], []]
    merged = consolidation.point_map(points, size=(80, 80))
    assert merged[40, 40] == np.float32(2) / np.float32(3)
    assert set(np.unique(merged)) == {0, np.float32(1) / 3, np.float32(2) / 3}


def test_no_clicks_give_an_empty_map():
    assert not consolidation.point_map([[], [], []], size=(64, 64)).any()


def test_majority_of_words_and_ties():
    vote = consolidation.vote_words
    assert vote([[0, 2], [2], [1, 2, 2]], num_words=4).tolist() == [1, 1, 0, 1]
    assert vote([[0], []], num_words=1).tolist() == [1]  # a tie is aligned
    assert vote([[0], [0], [], []], num_words=1).tolist() == [1]
    assert vote([[0], [0], [0], []], num_words=1).tolist() == [0]
    assert vote([[0]], num_words=2).tolist() == [0, 1]
    assert vote([[], []], num_words=0).shape == (0,)


def test_scores_map_to_the_unit_interval():
    score = consolidation.mean_score
    assert score([1, 1, 1]) == 0
    assert score([5, 5, 5]) == 1
    assert score([3, 3, 3]) == 0.5
    assert score([2, 3, 3]) == pytest.approx(5 / 12)
    assert score([4]) == 0.75


def test_consolidate_gives_the_fields_of_a_record():
    scores = {"plausibility": 1, "alignment": 5, "aesthetics": 2, "overall": 4}
    ratings = [
        _rating(scores=scores, misaligned_words=[1], implausible_points=[[0.5, 0.5]]),
        _rating(scores=scores, misaligned_words=[1, 3]),
        _rating(misaligned_words=[3], misaligned_points=[[0.1, 0.9]]),
    ]
    ratings = json.loads(json.dumps(ratings))
    labels = consolidation.consolidate(ratings, "a red, big fish.", size=(64, 96))
    assert labels["prompt_misalignment_label"].tolist() == [1, 0, 1, 0]
    assert labels["prompt_misalignment_label"].dtype == np.int8
    assert labels["artifact_score"] == pytest.approx((5 / 3 - 1) / 4)
    assert labels["misalignment_score"] == pytest.approx((13 / 3 - 1) / 4)
    assert labels["aesthetics_score"] == pytest.approx((7 / 3 - 1) / 4)
    assert labels["overall_score"] == pytest.approx((11 / 3 - 1) / 4)
    for field in ("artifact_map", "misalignment_map"):
        assert labels[field].shape == (64, 96)
        assert labels[field].max() == np.float32(1) / 3
    assert labels["misalignment_map"][57, 9] > 0
    assert len(labels) == 7


@pytest.mark.parametrize(
    ("ratings", "message"),
    [
        ([], "at least one rating"),
        ([_rating(misaligned_words=[2])], "has 2 words"),
        ([_rating(misaligned_words=[-1])], "word -1 does not exist"),
        ([_rating(implausible_points=[[20, 31]])], "divide pixels by"),
        ([_rating(scores=dict.fromkeys(_rating()["scores"], 0))], "between 1 and 5"),
        ([_rating(implausible_points=[[float("nan"), 0.5]])], "fractions of the image"),
    ],
)
def test_bad_ratings_are_named(ratings, message):
    with pytest.raises(ValueError, match=message):
        consolidation.consolidate(ratings, "two words", size=(64, 64))
