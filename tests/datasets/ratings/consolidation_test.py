"""Consolidation against examples worked by hand."""

import json

import numpy as np
import pytest

from rahf.datasets.ratings import consolidation


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


def test_medians():
    median = consolidation.median_score
    assert median([1, 5, 5]) == 1
    assert median([2]) == 0.25
    assert median([1, 2, 4, 5]) == 0.5  # the middle of 2 and 4
    assert median([1, 4], [1.0, 1.0]) == pytest.approx(0.375)
    assert median([1, 4, 5], [0.2, 0.1, 0.3]) == 0.875  # half lies on either side
    assert median([1, 2, 5], [3.0, 1.0, 1.0]) == 0
    with pytest.raises(ValueError, match="between 1 and 5, got 0"):
        median([0, 3])


def test_weights_count_in_every_label():
    options = consolidation.ConsolidationOptions(weights={"good": 3.0, "bad": 0.5})
    marks = {"misaligned_words": [0], "implausible_points": [[0.5, 0.5]]}
    ratings = [
        _rating(rater="good", scores={"overall": 5}, **marks),
        _rating(rater="bad", scores={"overall": 1}),
        _rating(rater="unknown", scores={"overall": 1}),  # weighs 1
    ]
    labels = consolidation.consolidate(
        ratings, "two words", size=(64, 64), options=options
    )
    assert labels["prompt_misalignment_label"].tolist() == [0, 1]
    assert labels["artifact_map"].max() == pytest.approx(3 / 4.5)
    assert labels["overall_score"] == pytest.approx((15 + 0.5 + 1 - 4.5) / 4.5 / 4)
    plain = consolidation.consolidate(ratings, "two words", size=(64, 64))
    assert plain["prompt_misalignment_label"].tolist() == [1, 1]
    assert plain["overall_score"] == pytest.approx((7 / 3 - 1) / 4)
    middle = consolidation.ConsolidationOptions(scores="median", weights={"good": 3.0})
    labels = consolidation.consolidate(
        ratings, "two words", size=(64, 64), options=middle
    )
    assert labels["overall_score"] == 1


def test_a_tie_of_weights_is_aligned():
    # 0.1 + 0.2 is not 0.3 in floating point, and yet a tie.
    vote = consolidation.vote_words(
        [[0], [0], []], num_words=1, weights=[0.1, 0.2, 0.3]
    )
    assert vote.tolist() == [1]
    more = consolidation.vote_words(
        [[0], [0], []], num_words=1, weights=[0.1, 0.21, 0.3]
    )
    assert more.tolist() == [0]


def test_the_radius_is_an_option():
    rating = _rating(implausible_points=[[0.5, 0.5]])
    areas = [
        consolidation.consolidate(
            [rating],
            "",
            size=(200, 200),
            options=consolidation.ConsolidationOptions(radius=radius),
        )["artifact_map"].sum()
        for radius in (0.05, 0.1)
    ]
    assert areas == pytest.approx([np.pi * 10**2, np.pi * 20**2], rel=0.02)


def test_any_number_of_raters():
    points = [[[0.5, 0.5]]] * 600 + [[]] * 300
    merged = consolidation.point_map(points, size=(20, 20))
    assert merged.max() == np.float32(2 / 3)
    weighted = consolidation.point_map(points, size=(20, 20), weights=[0.5] * 900)
    np.testing.assert_allclose(weighted, merged, rtol=1e-6)
    marks = [[0]] * 451 + [[]] * 449
    assert consolidation.vote_words(marks, num_words=1).tolist() == [0]


def test_labels_that_nobody_gave_are_not_there():
    ratings = [
        {"rater": "a", "scores": {"overall": 4}},
        {"rater": "b", "scores": {"overall": None}, "misaligned_words": [0]},
        {"rater": "c", "implausible_points": [[0.5, 0.5]], "misaligned_points": None},
    ]
    labels = consolidation.consolidate(ratings, "one", size=(64, 64))
    assert set(labels) == {"overall_score", "artifact_map", "prompt_misalignment_label"}
    assert labels["overall_score"] == 0.75
    assert labels["artifact_map"].max() == 1  # one gave points, and marked this
    assert labels["prompt_misalignment_label"].tolist() == [0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scores": "mode"}, "scores='mode' is unknown; options: mean, median"),
        ({"radius": 0}, "radius=0 must be a share"),
        (
            {"weights": {"a": 0.0}},
            "rater 'a': the weight must be finite and above 0, got 0.0",
        ),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        consolidation.ConsolidationOptions(**options)
