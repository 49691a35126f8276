"""Points in pixels <-> fractions of the sides, without losing the last bit.

The database, COCO and CVAT have pixels, a raters' file has fractions, Label Studio has
percent. Dividing by a side that
is no power of two rounds, and multiplying again need not give the same number: 1 pixel
of 49 comes back as 0.9999999999999999. `to_pixel` looks for the pixel whose fraction is
exactly the given one, so that

- a fraction that was a pixel's once stays the same through any number of conversions,
- a pixel of at most nine decimals, such as any that the raters' page sends, does too.

A pixel with more decimals comes back within its last bit. A fraction from elsewhere,
such as 0.1 of 3 pixels, need not be any pixel's; then the nearest is taken.
"""

import math

# Far less than anyone can click, far more than the rounding of a side of 100,000.
_DECIMALS = 9


def to_fraction(pixel: float, side: float) -> float:
    """Returns a coordinate as a share of the side, both in pixels."""
    return pixel / side


def to_pixel(fraction: float, side: float) -> float:
    """Returns the coordinate in pixels whose `to_fraction` is the given one.

    Args:
      fraction: the coordinate as a share of the side, in [0, 1].
      side: the width or height in pixels.

    Returns:
      A float in [0, side]: of several candidates the one with the fewest decimals, or
      the nearest if there is none.
    """
    product = fraction * side
    neighbours = (math.nextafter(product, 0), math.nextafter(product, math.inf))
    for pixel in (round(product, _DECIMALS), product, *neighbours):
        if 0 <= pixel <= side and to_fraction(pixel, side) == fraction:
            return pixel
    return min(product, float(side))


def to_percent(fraction: float) -> float:
    """Returns a share of a side in percent."""
    return 100 * fraction


def from_percent(percent: float, side: float) -> float:
    """Returns a percentage of a side, in [0, 100], as a share of it.

    If a pixel of at most nine decimals has this percentage, the share is exactly its
    `to_fraction`; otherwise the quotient.
    """
    fraction = to_fraction(round(percent / 100 * side, _DECIMALS), side)
    return fraction if to_percent(fraction) == percent else percent / 100
