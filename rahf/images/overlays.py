"""Heatmaps over their images, for people to look at.

The image is grey, so that all colour is the heatmap's. Nothing is drawn below `VISIBLE`,
and no colour is more opaque than `OPACITY`, so that the object underneath stays visible.
A line encloses what is above a threshold.
"""

import functools

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from rahf.images.colormap import colormap
from rahf.images.heatmaps import grey
from rahf.images.resizing import resize

#: The heatmap value up to which the image is left as it is.
VISIBLE = 0.1
#: The highest opacity of the colours.
OPACITY = 0.55
#: The value from which they have it: one of three raters marked such a region.
_FULL = 1 / 3
#: Black and white of the grey image, so that colours and lines show on either.
_BLACK, _WHITE = 40, 236
_MIDDLE = (_BLACK + _WHITE) // 2
#: The sides of pictures: large images are reduced, and small ones enlarged, lest a smooth
#: heatmap become blocks.
_LONGEST, _SHORTEST = 2048, 256
#: Colours of what is written beside an image: the paper, the ink and faint ink.
PAPER, INK, SOFT = (251, 250, 248), (29, 28, 26), (102, 98, 91)


def overlay(
    image: np.ndarray, heatmap: np.ndarray, *, threshold: float | None = None
) -> np.ndarray:
    """Draws a heatmap over its image in grey.

    Args:
      image: uint8[H, W, 3].
      heatmap: float[h, w] in [0, 1], of any size.
      threshold: the value above which a line encloses the heatmap; None = no line.

    Returns:
      uint8[H, W, 3].

    Raises:
      ValueError: there are no pixels.
    """
    if not image.size or not heatmap.size:
        raise ValueError(f"expected pixels, got {image.shape} and {heatmap.shape}")
    values = grey(heatmap, (image.shape[0], image.shape[1]))
    colours = values.copy()
    colours.putpalette(colormap().tobytes())
    alpha = values.point(np.floor(255 * _strengths()).astype(int).tolist())
    levels = np.linspace(_BLACK, _WHITE, 256).astype(int).tolist()
    under = Image.fromarray(image).convert("L").point(levels).convert("RGB")
    picture = Image.composite(colours.convert("RGB"), under, alpha)
    if threshold is not None:
        _draw_contour(picture, values, threshold)
    return np.asarray(picture)


def _strengths() -> np.ndarray:
    """Returns float[256], the opacity of the colours for values from 0 to 1."""
    first = round(255 * VISIBLE)
    steps = (np.arange(256) - first) / (255 * _FULL - first)
    return steps.clip(0, 1) * OPACITY


def _draw_contour(picture: Image.Image, values: Image.Image, threshold: float) -> None:
    """Draws a white line with dark sides along a level of a heatmap."""
    inside = values.point([255 * (level / 255 > threshold) for level in range(256)])
    if inside.getextrema() != (0, 255):
        return  # all of it is on one side
    unit = max(picture.size) / 512
    for radius, colour in ((1.6, (0, 0, 0)), (0.7, (255, 255, 255))):
        # The blur makes a ramp across the border, whose middle is the line.
        ramp = inside.filter(ImageFilter.BoxBlur(max(radius * unit, 0.5)))
        near = [min(255, 510 - 2 * abs(2 * level - 255)) for level in range(256)]
        picture.paste(colour, (0, 0, *picture.size), ramp.point(near))


@functools.cache
def legend() -> np.ndarray:
    """Returns the colours of heatmap values from 0 to 1 over middle grey, uint8[256, 3]."""
    strength = _strengths()[:, None]
    return np.rint((1 - strength) * _MIDDLE + strength * colormap()).astype(np.uint8)


def fit(image: np.ndarray, longest: int = _LONGEST) -> np.ndarray:
    """Returns an image in a size for viewing.

    Args:
      image: uint8[H, W, 3].
      longest: the longest side it may have, in pixels.

    Returns:
      uint8[H, W, 3], whose shorter side has at least 256 pixels where its longer one may.
    """
    height, width = image.shape[:2]
    scale = max(1.0, _SHORTEST / min(height, width))
    scale = min(scale, longest / max(height, width))
    size = max(1, round(height * scale)), max(1, round(width * scale))
    return image if size == (height, width) else resize(image, size)


def overlay_picture(
    image: np.ndarray,
    heatmap: np.ndarray,
    *,
    title: str,
    threshold: float | None = None,
    longest: int = _LONGEST,
) -> Image.Image:
    """Returns an overlay above a colour bar that shows the peak and the threshold.

    Args:
      image, heatmap, threshold: see `overlay`.
      title: what the heatmap is.
      longest: see `fit`.
    """
    drawn = Image.fromarray(overlay(fit(image, longest), heatmap, threshold=threshold))
    peak = float(np.max(np.nan_to_num(heatmap)))
    size = text_size(max(drawn.size))
    width = max(drawn.width, 16 * size)
    picture = Image.new("RGB", (width, drawn.height + int(4.5 * size)), PAPER)
    picture.paste(drawn, ((width - drawn.width) // 2, 0))
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(size)
    top = drawn.height + size // 3
    draw.text((size // 2, top), f"{title}, peak {peak:.2f}", INK, font)
    bar = size, top + int(1.7 * size), width - size, top + int(2.4 * size)
    colours = Image.fromarray(legend()[None])
    picture.paste(colours.resize((bar[2] - bar[0], bar[3] - bar[1])), bar[:2])
    thin = max(1, size // 12)
    for value in (0.0, *([] if threshold is None else [threshold]), 1.0):
        x = round(bar[0] + value * (bar[2] - bar[0]))
        if 0 < value < 1:
            draw.rectangle((x - thin, bar[1], x, bar[3]), fill=(255, 255, 255))
        spot = (x, bar[3] + size // 4)
        small = ImageFont.load_default(0.8 * size)
        draw.text(spot, f"{value:g}", SOFT, small, anchor="mt")
    x, side = bar[0] + peak * (bar[2] - bar[0]), 0.4 * size
    draw.polygon(
        [(x, bar[1]), (x - side, bar[1] - side), (x + side, bar[1] - side)], INK
    )
    return picture


def text_size(longest: int) -> int:
    """Returns the size of text in pixels beside a picture of this longest side."""
    return max(12, round(longest / 32))
