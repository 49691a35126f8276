"""Pixels and fractions turn into each other without losing the last bit."""

import numpy as np

from rahf.annotation import pixels
from rahf.annotation.records import Answer, Feedback


def _pairs(count):
    """Sides of any size, and points on them with any number of digits."""
    dice = np.random.default_rng(0)
    for side in dice.integers(1, 20_000, count).tolist():
        yield side, float(dice.uniform(0, side))


def test_a_fraction_that_was_a_pixel_stays_the_same():
    for side, pixel in _pairs(20_000):
        fraction = pixels.to_fraction(pixel, side)
        again = pixels.to_pixel(fraction, side)
        assert 0 <= again <= side and abs(again - pixel) < 1e-9
        assert pixels.to_fraction(again, side) == fraction
        assert pixels.to_pixel(pixels.to_fraction(again, side), side) == again


def test_pixels_of_up_to_nine_decimals_come_back_exactly():
    for side, pixel in _pairs(20_000):
        for digits in (0, 3, 9):
            short = min(round(pixel, digits), float(side))
            assert pixels.to_pixel(pixels.to_fraction(short, side), side) == short
    assert (1 / 49) * 49 != 1 and pixels.to_pixel(1 / 49, 49) == 1
    assert pixels.to_pixel(1.0, 49) == 49 and pixels.to_pixel(0.0, 49) == 0


def test_a_fraction_from_elsewhere_becomes_the_nearest_pixel():
    for side, pixel in _pairs(5_000):
        fraction = pixel / 20_000
        assert abs(pixels.to_pixel(fraction, side) - fraction * side) <= 1e-9


def test_rows_of_answers_are_stable():
    for side, pixel in _pairs(2_000):
        size = {"width": side, "height": side + 1}
        label = Feedback(implausible_points=((pixel, pixel),))
        rest = {"image": "a", "prompt": "", "rater": "r"}
        row = Answer(label=label, **rest, **size).row()
        [[x, y]] = row["implausible_points"]
        point = (pixels.to_pixel(x, side), pixels.to_pixel(y, side + 1))
        again = Answer(label=Feedback(implausible_points=(point,)), **rest, **size)
        assert again.row() == row
