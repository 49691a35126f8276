"""Masks, against shapes whose result can be counted."""

import math

import numpy as np
import pytest

from rahf.applications.masks import MaskOptions, describe_mask, make_mask

_PLAIN = {"specks": 0.0, "dilate": 0.0, "fill_holes": False, "feather": 0.0}


def _make(*heatmaps, **options):
    return make_mask(heatmaps, MaskOptions(**{**_PLAIN, **options}))


def _dot(size=200, at=(100, 100), side=1):
    heatmap = np.zeros((size, size), np.float32)
    heatmap[at[0] : at[0] + side, at[1] : at[1] + side] = 0.5
    return heatmap


def test_the_threshold_is_inside():
    heatmap = np.array([[0.2, 0.3, 0.4]], np.float32)
    np.testing.assert_array_equal(
        _make(heatmap, threshold=float(np.float32(0.3))), [[0, 255, 255]]
    )


def test_a_union():
    mask = _make(_dot(at=(10, 20)), _dot(at=(150, 20)))
    assert [region["box"] for region in describe_mask(mask)["boxes"]] == [
        [20, 10, 21, 11],
        [20, 150, 21, 151],
    ]
    with pytest.raises(ValueError, match="of one size"):
        _make(_dot(), _dot(size=100))


def test_a_radius_is_a_twentieth_of_the_height():
    mask = _make(_dot(), dilate=1.0)  # 10 pixels
    rows, columns = np.nonzero(mask)
    assert (rows.min(), rows.max()) == (90, 110)
    assert (columns.min(), columns.max()) == (90, 110)
    assert (mask == 255).sum() == pytest.approx(math.pi * 10**2, rel=0.02)
    wide = np.zeros((100, 400), np.float32)
    wide[50, 200] = 1
    assert np.ptp(np.nonzero(_make(wide, dilate=1.0))[1]) == 10  # 5 on each side


def test_specks_are_dropped_before_they_grow():
    heatmap = np.maximum(_dot(at=(20, 20), side=5), _dot(at=(100, 100), side=6))
    # A disk has 314 pixels: 25 are .0796 of it, 36 are .115.
    mask = _make(heatmap, specks=0.1, dilate=1.0)
    [region] = describe_mask(mask)["boxes"]
    assert region["box"] == [90, 90, 116, 116]


def test_corners_connect():
    heatmap = np.maximum(_dot(at=(20, 20), side=5), _dot(at=(25, 25), side=5))
    assert len(describe_mask(_make(heatmap))["boxes"]) == 1


def test_holes():
    ring = _dot(side=50)
    ring[110:120, 110:120] = 0
    assert (_make(ring) == 255).sum() == 2400
    assert (_make(ring, fill_holes=True) == 255).sum() == 2500
    ring[100:120, 112:118] = 0  # open at the top
    assert (_make(ring, fill_holes=True) == 255).sum() < 2500


def test_a_feather_is_outside_and_fades():
    plain = _make(_dot(side=20))
    mask = _make(_dot(side=20), feather=1.0)
    np.testing.assert_array_equal(mask == 255, plain == 255)
    edge = mask[110, 119:132].astype(int)
    assert edge[0] == 255
    assert (np.diff(edge[:12]) < 0).all()
    assert edge[10] > 0
    assert edge[11:].tolist() == [0, 0]
    wide = _make(_dot(side=20), feather=100.0)  # the first step is below 1/510
    np.testing.assert_array_equal(wide == 255, plain == 255)


@pytest.mark.parametrize(
    ("value", "flag", "area"), [(0.0, "empty", 0.0), (1.0, "full", 1.0)]
)
def test_masks_of_nothing_and_everything(value, flag, area):
    heatmap = np.full((30, 40), value, np.float32)
    mask = _make(heatmap, dilate=2.0, fill_holes=True, feather=1.0, specks=0.1)
    found = describe_mask(mask)
    assert (found["flag"], found["area"]) == (flag, area)
    assert (mask == (255 if value else 0)).all()


def test_nearly_everything_is_flagged():
    mask = np.full((100, 100), 255, np.uint8)
    mask[:5] = 0
    assert describe_mask(mask)["flag"] == "full"
    mask[5, 0] = 0
    found = describe_mask(mask)
    assert found["flag"] is None
    assert found["area"] == 0.9499
    assert found["boxes"] == [{"box": [0, 5, 100, 100], "area": 0.9499}]


def test_the_largest_region_comes_first():
    mask = _make(np.maximum(_dot(at=(0, 0), side=2), _dot(side=9)))
    assert [r["box"] for r in describe_mask(mask)["boxes"]] == [
        [100, 100, 109, 109],
        [0, 0, 2, 2],
    ]


@pytest.mark.parametrize(
    "options", [{"threshold": 0}, {"dilate": -1}, {"feather": 1e999}]
)
def test_bad_options(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        MaskOptions(**options)
