"""Heatmap -> mask: threshold, drop specks, dilate, fill holes, feather.

Lengths are in units of the radius of the raters' disks, a twentieth of the image's
height (RichHF-18K draws every click as one), so that one setting fits all sizes.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import ndimage

#: The radius of a rater's disk, as a share of the image's height.
RADIUS = 1 / 20
#: The share of the area from which a mask counts as covering everything: nothing is
#: left that could tell an inpainter what to continue.
FULL = 0.95


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaskOptions:
    """How a mask is made.

    Attributes:
      threshold: the heatmap's lowest value inside; 0.3 is about one rater in three.
      specks: regions with a smaller area are dropped, in areas of a rater's disk.
      dilate: how far regions grow, in radii.
      fill_holes: whether what a region encloses belongs to it.
      feather: the width of the edge outside, over which white fades to black, in radii.
    """

    threshold: float = 0.3
    specks: float = 0.1
    dilate: float = 0.5
    fill_holes: bool = True
    feather: float = 0.0

    def __post_init__(self):
        if not 0 < self.threshold <= 1:
            raise ValueError(f"threshold={self.threshold} must be above 0, at most 1")
        for name in ("specks", "dilate", "feather"):
            value = getattr(self, name)
            if not (0 <= value < math.inf):
                raise ValueError(f"{name}={value} must be a number of at least 0")


def make_mask(heatmaps: Sequence[np.ndarray], options: MaskOptions) -> np.ndarray:
    """Makes the mask of what any of several heatmaps marks.

    Args:
      heatmaps: float[H, W] in [0, 1] each, of the image's size.
      options: how.

    Returns:
      uint8[H, W]: 255 = repaint, 0 = keep, values between on a feathered edge.
    """
    sizes = {heatmap.shape for heatmap in heatmaps}
    if len(sizes) != 1:
        raise ValueError(f"expected heatmaps of one size, got {sorted(sizes)}")
    radius = RADIUS * heatmaps[0].shape[0]
    inside = np.any([heatmap >= options.threshold for heatmap in heatmaps], axis=0)
    inside = _without_specks(inside, options.specks * math.pi * radius**2)
    if options.dilate and inside.any():
        inside = _distance_to(inside) <= options.dilate * radius
    if options.fill_holes:
        inside = np.asarray(ndimage.binary_fill_holes(inside))
    mask = np.where(inside, 255, 0).astype(np.uint8)
    if options.feather and inside.any():
        # The first pixel outside is not white, nor is the one at the end black.
        fade = 1 - _distance_to(inside) / (options.feather * radius + 1)
        edge = np.rint(255 * fade.clip(0, 254 / 255)).astype(np.uint8)
        mask = np.maximum(mask, edge)
    return mask


def _distance_to(inside: np.ndarray) -> np.ndarray:
    """Returns float64[H, W], each pixel's distance to the nearest one inside."""
    return np.asarray(ndimage.distance_transform_edt(~inside))


def _without_specks(inside: np.ndarray, area: float) -> np.ndarray:
    labels, count = _regions(inside)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    keep = sizes >= area
    keep[0] = False  # the outside
    return keep[labels]


def _regions(inside: np.ndarray) -> tuple[np.ndarray, int]:
    """Numbers connected regions from 1; touching corners connect."""
    labels = np.zeros(inside.shape, np.int32)
    return labels, int(ndimage.label(inside, np.ones((3, 3)), labels))  # pyright: ignore


def describe_mask(mask: np.ndarray) -> dict[str, Any]:
    """Returns how much of a mask is white, and where.

    Args:
      mask: uint8[H, W]; only 255 counts, not a feathered edge.

    Returns:
      `area`: the white share of the image; `boxes`: one `{"box": [left, top, right,
      bottom], "area": share}` per region, the largest first, in pixels, right and
      bottom exclusive; `flag`: "empty", "full" (`FULL` or more is white), or None.
    """
    white = mask == 255
    labels, _ = _regions(white)
    sizes = np.bincount(labels.ravel())
    regions = [
        {
            "box": [x.start, y.start, x.stop, y.stop],
            "area": round(float(sizes[index]) / mask.size, 6),
        }
        for index, (y, x) in enumerate(ndimage.find_objects(labels), 1)
    ]
    area = float(white.mean())
    flag = "empty" if not white.any() else "full" if area >= FULL else None
    regions.sort(key=lambda region: -region["area"])
    return {"area": round(area, 6), "flag": flag, "boxes": regions}
