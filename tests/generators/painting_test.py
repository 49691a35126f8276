"""Pasting what a generator painted."""

import numpy as np

from rahf.generators.painting import paste


def test_mixed_pixels_are_between():
    image, new = np.zeros((2, 2, 3), np.uint8), np.full((2, 2, 3), 200, np.uint8)
    found = paste(image, new, np.array([[0.0, 1.0], [0.5, 0.25]]))
    np.testing.assert_array_equal(found[..., 0], [[0, 200], [100, 50]])
