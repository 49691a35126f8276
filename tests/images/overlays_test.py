import numpy as np
import pytest

from rahf import images
from rahf.images import overlays

LUMA = [0.299, 0.587, 0.114]


def _photograph(size=64):
    """A picture in full colour, from black to white."""
    values = np.random.default_rng(0).integers(0, 256, (size, size, 3))
    return values.astype(np.uint8)


def _ramp(size=64):
    return np.tile(np.linspace(0, 1, size, dtype=np.float32), (size, 1))


def test_the_image_is_grey_and_nothing_is_drawn_below_a_tenth():
    picture = _photograph()
    drawn = images.overlay(picture, np.full((4, 4), 0.1, np.float32))
    assert (drawn == drawn[..., :1]).all()
    luma = picture @ LUMA
    order = np.argsort(luma.ravel())
    grey = drawn[..., 0].ravel()[order].astype(int)
    assert (np.diff(grey)[np.diff(luma.ravel()[order]) > 2] >= 0).all()
    assert np.ptp(grey) > 180
    coloured = images.overlay(picture, np.full((4, 4), 0.3, np.float32))
    assert np.ptp(coloured, axis=-1).min() > 20


@pytest.mark.parametrize("value", [0.2, 0.5, 1.0])
def test_the_object_stays_visible(value):
    """A difference in the image keeps 45 % of its size at least."""
    picture = np.zeros((8, 8, 3), np.uint8)
    picture[:, 4:] = 255
    plain, drawn = (
        images.overlay(picture, np.full((8, 8), each, np.float32)).astype(float)
        for each in (0.0, value)
    )
    kept = (drawn[0, -1] - drawn[0, 0]) / (plain[0, -1] - plain[0, 0])
    assert (kept >= 1 - 0.55 - 0.01).all()


def test_colours_are_clearest_from_a_third_on():
    picture = np.full((4, 256, 3), 128, np.uint8)
    drawn = images.overlay(picture, _ramp(256)[:4]).astype(float)[0]
    away = np.abs(drawn - drawn[0]).sum(-1)
    assert away[25] == 0
    assert 0 < away[40] < away[60] < away[85]
    np.testing.assert_allclose(drawn, images.legend(), atol=2)


def test_a_line_encloses_what_is_above_the_threshold():
    picture = np.full((64, 64, 3), 128, np.uint8)
    ramp = _ramp()
    drawn = images.overlay(picture, ramp, threshold=0.3).astype(int)
    changed = np.abs(drawn - images.overlay(picture, ramp)).sum(-1).max(0)
    assert set(np.flatnonzero(changed)) <= {17, 18, 19, 20}
    assert changed.any()
    for flat in (np.zeros((4, 4)), np.ones((4, 4))):  # no border runs through these
        np.testing.assert_array_equal(
            images.overlay(picture, flat, threshold=0.3), images.overlay(picture, flat)
        )


@pytest.mark.parametrize(
    ("size", "expected"),
    [((20, 10), (512, 256)), ((1, 20_000), (1, 2048)), ((3000, 1500), (2048, 1024))],
)
def test_pictures_are_of_a_size_to_look_at(size, expected):
    picture = np.zeros((*size, 3), np.uint8)
    assert overlays.fit(picture).shape[:2] == expected
    drawn = images.overlay_picture(picture, np.ones((2, 2)), title="a", threshold=0.3)
    assert drawn.height > expected[0]
    assert drawn.width >= expected[1]


def test_the_bar_shows_peak_and_threshold():
    picture = np.zeros((300, 300, 3), np.uint8)
    bars = []
    for peak, threshold in ((0.25, 0.3), (0.75, 0.3), (0.75, None)):
        heatmap = np.full((2, 2), peak, np.float32)
        drawn = images.overlay_picture(picture, heatmap, title="", threshold=threshold)
        bars.append(np.asarray(drawn)[300:].astype(int))
    marks = [np.argwhere((bar[16:] == overlays.INK).all(-1))[:, 1] for bar in bars[:2]]
    assert marks[0].mean() == pytest.approx(12 + 0.25 * 276, abs=2)
    assert marks[1].mean() == pytest.approx(12 + 0.75 * 276, abs=2)
    cut = np.flatnonzero(np.abs(bars[1] - bars[2]).sum(-1).any(0))
    assert cut.mean() == pytest.approx(12 + 0.3 * 276, abs=6)


def test_no_pixels():
    with pytest.raises(ValueError, match="expected pixels"):
        images.overlay(np.zeros((0, 4, 3), np.uint8), np.zeros((2, 2)))
