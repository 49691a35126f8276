"""Heatmaps -> weights of a loss on any grid of tokens or latents.

The paper names this use as future work (section 6 of
https://arxiv.org/abs/2312.10240). What is weighted down may stay untrained rather than
mended, so compare with uniform weights.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Self

import numpy as np


@dataclasses.dataclass(frozen=True)
class PlaceWeights:
    """Weights of the places of an image, before they are divided by their mean.

    Attributes:
      heatmap: the name of the heatmap that they are low in.
      floor: the lowest weight, in [0, 1].
    """

    heatmap: str
    floor: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads `implausibility` or, with a floor, `implausibility=0.1`.

        Raises:
          ValueError: the text is none of these.
        """
        name, equals, number = text.partition("=")
        try:
            floor = float(number) if equals else 0.0
        except ValueError:
            floor = math.nan
        if not name or not 0 <= floor <= 1:
            raise ValueError(
                f"{text!r}: expected a heatmap, such as implausibility, or with the "
                "lowest weight, from 0 to 1: implausibility=0.1"
            )
        return cls(name, floor)

    def of(self, heatmap: np.ndarray) -> np.ndarray:
        """float[..., H, W] in [0, 1] -> weights in [0, 1] of the same shape and type."""
        return np.maximum(1 - heatmap, self.floor)


def pool(heatmaps: np.ndarray, grid: Sequence[int]) -> np.ndarray:
    """Averages heatmaps over the cells of a grid, whatever the sizes.

    A pixel that lies in two cells counts in each by its share, so the mean of the grid
    is the mean of the heatmap.

    Args:
      heatmaps: float[..., H, W].
      grid: the height and width of the grid.

    Returns:
      float32[..., height, width].

    Raises:
      ValueError: the heatmap has fewer than two axes or no pixels, or the grid is not
        two numbers of at least 1.
    """
    heatmaps = np.asarray(heatmaps, np.float64)
    if heatmaps.ndim < 2 or not heatmaps.size:
        raise ValueError(
            f"expected heatmaps [..., H, W], got shape {list(heatmaps.shape)}"
        )
    if len(grid) != 2 or min(grid) < 1:
        raise ValueError(
            f"expected a grid of (height, width), at least 1 each, got {tuple(grid)}"
        )
    rows = _cell_shares(heatmaps.shape[-2], grid[0])
    columns = _cell_shares(heatmaps.shape[-1], grid[1])
    return (rows @ heatmaps @ columns.T).astype(np.float32)


def _cell_shares(pixels: int, cells: int) -> np.ndarray:
    """Returns float64[cells, pixels], the share of each pixel in a cell; rows sum to 1."""
    edges = np.arange(cells + 1) * (pixels / cells)
    left = np.arange(pixels)
    overlap = np.minimum(edges[1:, None], left + 1) - np.maximum(edges[:-1, None], left)
    return overlap.clip(0) * (cells / pixels)


def weights(
    heatmaps: np.ndarray, grid: Sequence[int], *, floor: float = 0.0
) -> np.ndarray:
    """Returns loss weights that are low where heatmaps are high.

    w = max(1 - h, floor), with h the heatmap averaged over each cell, divided by the
    mean of w over the grid: a loss multiplied by w keeps its scale.

    Args:
      heatmaps: float[..., H, W] in [0, 1], higher is worse, such as
        `prediction.heatmaps["implausibility"]`.
      grid: the height and width of the grid of tokens or latents, such as (16, 16);
        `.reshape(-1)` gives the order of tokens by rows.
      floor: the lowest weight, in [0, 1], before division. 0 leaves a cell that
        everybody would mark untrained; 1 gives uniform weights.

    Returns:
      float32[..., height, width] with a mean of 1 for each heatmap. If every weight
      would be 0, all are 1.

    Raises:
      ValueError: a heatmap is not finite or not in [0, 1], the floor is not in [0, 1],
        or see `pool`.
    """
    heatmaps = np.asarray(heatmaps, np.float64)
    if heatmaps.size and not (heatmaps.min() >= 0 and heatmaps.max() <= 1):
        raise ValueError(
            f"expected heatmaps in [0, 1], got [{heatmaps.min():g}, {heatmaps.max():g}]"
        )
    if not 0 <= floor <= 1:
        raise ValueError(f"floor={floor} must be in [0, 1]")
    found = np.maximum(1 - pool(heatmaps, grid).astype(np.float64), floor)
    mean = found.mean((-2, -1), keepdims=True)
    # Below a millionth there is nothing but rounding left to divide.
    uniform = mean < 1e-6
    return np.where(uniform, 1, found / np.where(uniform, 1, mean)).astype(np.float32)
