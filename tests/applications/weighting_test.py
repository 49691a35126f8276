"""Heatmaps as weights of a loss."""

import numpy as np
import pytest

from rahf.applications import weighting


def test_pooling_by_hand():
    heatmap = np.array([[0, 1, 0.5, 0.5], [0, 1, 0.5, 0.5]])
    np.testing.assert_allclose(weighting.pool(heatmap, (1, 2)), [[0.5, 0.5]])
    np.testing.assert_allclose(weighting.pool(heatmap, (2, 1)), [[0.5], [0.5]])
    # Three cells over four pixels: one and a third each.
    np.testing.assert_allclose(
        weighting.pool(heatmap, (1, 3)), [[0.25, 0.75, 0.5]], atol=1e-6
    )


@pytest.mark.parametrize("grid", [(1, 1), (3, 5), (16, 16), (50, 7), (64, 128)])
def test_the_mean_survives_any_grid(grid):
    heatmaps = np.random.default_rng(0).random((2, 3, 31, 48))
    pooled = weighting.pool(heatmaps, grid)
    assert pooled.shape == (2, 3, *grid)
    np.testing.assert_allclose(
        pooled.mean((-2, -1)), heatmaps.mean((-2, -1)), rtol=1e-5
    )


def test_weights_by_hand():
    heatmap = np.zeros((4, 4))
    heatmap[:2, :2] = 1
    heatmap[2:, 2:] = 0.5
    np.testing.assert_allclose(
        weighting.weights(heatmap, (2, 2)), np.array([[0, 1], [1, 0.5]]) / 0.625
    )
    np.testing.assert_allclose(
        weighting.weights(heatmap, (2, 2), floor=0.25),
        np.array([[0.25, 1], [1, 0.5]]) / 0.6875,
        rtol=1e-6,
    )
    np.testing.assert_allclose(weighting.weights(heatmap, (2, 2), floor=1), 1)


def test_each_heatmap_has_mean_1():
    heatmaps = np.random.default_rng(0).random((5, 24, 24)) ** 3
    heatmaps[0] = 1  # nothing would be left to train
    heatmaps[1] = 0
    found = weighting.weights(heatmaps, (7, 9))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.mean((-2, -1)), 1, rtol=1e-6)
    np.testing.assert_array_equal(found[:2], 1)


@pytest.mark.parametrize(
    ("heatmap", "grid", "floor", "message"),
    [
        (np.full((2, 2), np.nan), (1, 1), 0, "in \\[0, 1\\], got \\[nan"),
        (np.full((2, 2), 1.5), (1, 1), 0, "in \\[0, 1\\]"),
        (np.zeros(3), (1, 1), 0, "shape \\[3\\]"),
        (np.zeros((0, 3)), (1, 1), 0, "shape \\[0, 3\\]"),
        (np.zeros((2, 2)), (0, 1), 0, "at least 1 each"),
        (np.zeros((2, 2)), (1, 1), 1.1, "floor=1.1"),
    ],
)
def test_bad_input(heatmap, grid, floor, message):
    with pytest.raises(ValueError, match=message):
        weighting.weights(heatmap, grid, floor=floor)


def test_places_by_hand():
    heatmap = np.array([[0.0, 0.25], [1.0, 0.5]])
    one = weighting.PlaceWeights.parse("implausibility")
    assert one == weighting.PlaceWeights("implausibility", 0.0)
    np.testing.assert_array_equal(one.of(heatmap), 1 - heatmap)
    low = weighting.PlaceWeights.parse("misalignment=0.6")
    assert low.heatmap == "misalignment"
    np.testing.assert_allclose(low.of(heatmap), [[1, 0.75], [0.6, 0.6]])
    for text in ("", "=0.5", "x=", "x=1.5", "x=much"):
        with pytest.raises(ValueError, match="expected a heatmap, such as implausib"):
            weighting.PlaceWeights.parse(text)
