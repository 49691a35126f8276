"""Draws the sixteen kinds of objects as small maps of paint indices.

A kind is a list of polygons in a square from -1 to 1 (x right, y down). It is drawn
once per pixel size into a tile of indices, which a palette turns into colours, so that
a red and a blue house of the same size are drawn only once.
"""

import enum
import functools
import math

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

Polygon = list[tuple[float, float]]


class Paint(enum.IntEnum):
    """Meaning of a tile's values; an index into a palette."""

    NONE = 0
    BODY = 1
    SHADE = 2  # a darker shade of the body's colour
    PATTERN = 3  # the other colour of a textured body
    DARK = 4
    LIGHT = 5
    WOOD = 6
    OUTLINE = 7


def _ellipse(
    x: float, y: float, rx: float, ry: float, start: int = 0, stop: int = 360
) -> Polygon:
    """Returns an ellipse or an arc between angles in degrees (0 = right, 90 = down)."""
    return [
        (x + rx * math.cos(math.radians(a)), y + ry * math.sin(math.radians(a)))
        for a in range(start, stop + 1, 12)
    ]


def _rectangle(left: float, top: float, right: float, bottom: float) -> Polygon:
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def _star() -> Polygon:
    corners = [math.radians(36 * i - 90) for i in range(10)]
    radii = (1.0, 0.45) * 5
    return [
        (r * math.cos(a), 0.08 + r * math.sin(a))
        for r, a in zip(radii, corners, strict=True)
    ]


def _heart() -> Polygon:
    # The classic curve 16 sin^3 t, 13 cos t - 5 cos 2t - 2 cos 3t - cos 4t.
    curve = []
    for degrees in range(0, 360, 12):
        t = math.radians(degrees)
        y = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t)
        curve.append((math.sin(t) ** 3, -(y - math.cos(4 * t)) / 16 - 0.1))
    return curve


def _moon() -> Polygon:
    outer = _ellipse(0.15, 0, 0.95, 0.95, 60, 300)
    inner = _ellipse(0.55, 0, 0.8, 0.8, 84, 276)
    return outer + inner[::-1]


_B, _S, _D, _L, _W = Paint.BODY, Paint.SHADE, Paint.DARK, Paint.LIGHT, Paint.WOOD

_PARTS: dict[str, list[tuple[Paint, Polygon]]] = {
    "ball": [(_B, _ellipse(0, 0, 0.95, 0.95)), (_L, _ellipse(-0.4, -0.45, 0.2, 0.15))],
    "box": [
        (_B, _rectangle(-0.85, -0.8, 0.85, 0.85)),
        (_S, _rectangle(-0.85, -0.8, 0.85, -0.5)),
    ],
    "triangle": [(_B, [(0, -0.95), (0.98, 0.85), (-0.98, 0.85)])],
    "star": [(_B, _star())],
    "heart": [(_B, _heart())],
    "ring": [
        (_B, _ellipse(0, 0, 0.95, 0.95)),
        (Paint.NONE, _ellipse(0, 0, 0.48, 0.48)),
    ],
    "cross": [
        (_B, _rectangle(-0.33, -0.95, 0.33, 0.95)),
        (_B, _rectangle(-0.95, -0.33, 0.95, 0.33)),
    ],
    "moon": [(_B, _moon())],
    "arrow": [
        (_B, _rectangle(-0.95, -0.3, 0.2, 0.3)),
        (_B, [(0.1, -0.85), (0.98, 0), (0.1, 0.85)]),
    ],
    "house": [
        (_B, _rectangle(-0.75, -0.15, 0.75, 0.9)),
        (_S, [(0, -0.95), (0.98, -0.1), (-0.98, -0.1)]),
        (_D, _rectangle(-0.2, 0.3, 0.2, 0.9)),
    ],
    "tree": [
        (_W, _rectangle(-0.16, 0.2, 0.16, 0.95)),
        (_B, _ellipse(-0.42, 0.0, 0.5, 0.45)),
        (_B, _ellipse(0.42, 0.0, 0.5, 0.45)),
        (_B, _ellipse(0, -0.4, 0.58, 0.55)),
    ],
    "car": [
        (_B, [(-0.5, -0.55), (0.4, -0.55), (0.7, 0.0), (-0.75, 0.0)]),
        (_B, _rectangle(-0.98, -0.1, 0.98, 0.5)),
        (_L, [(-0.38, -0.4), (0.28, -0.4), (0.45, -0.05), (-0.5, -0.05)]),
        (_D, _ellipse(-0.52, 0.5, 0.27, 0.27)),
        (_D, _ellipse(0.52, 0.5, 0.27, 0.27)),
    ],
    "boat": [
        (_W, _rectangle(-0.08, -0.9, 0.06, 0.4)),
        (_B, [(0.12, -0.95), (0.85, 0.22), (0.12, 0.22)]),
        (_L, [(-0.14, -0.7), (-0.14, 0.22), (-0.7, 0.22)]),
        (_B, [(-0.98, 0.35), (0.98, 0.35), (0.6, 0.9), (-0.6, 0.9)]),
    ],
    "fish": [
        (_S, [(-0.4, 0), (-0.98, -0.55), (-0.98, 0.55)]),
        (_S, [(0.0, -0.3), (0.3, -0.8), (-0.4, -0.7)]),
        (_B, _ellipse(0.2, 0, 0.78, 0.52)),
        (_L, _ellipse(0.62, -0.12, 0.15, 0.15)),
        (_D, _ellipse(0.65, -0.12, 0.08, 0.08)),
    ],
    "flower": [
        *(
            (
                _B,
                _ellipse(
                    0.58 * math.cos(math.radians(a)),
                    0.58 * math.sin(math.radians(a)),
                    0.4,
                    0.4,
                ),
            )
            for a in range(0, 360, 60)
        ),
        (_D, _ellipse(0, 0, 0.3, 0.3)),
    ],
    "mushroom": [
        (_L, _rectangle(-0.25, 0.0, 0.25, 0.9)),
        (_B, _ellipse(0, 0.12, 0.95, 1.0, 180, 360)),
    ],
}


@functools.lru_cache(maxsize=1024)
def tile(kind: str, width: int, height: int, outline: int) -> np.ndarray:
    """Draws a kind into a tile of `Paint` indices.

    Args:
      kind: one of the grammar's object kinds.
      width: width of the object in pixels, without its outline.
      height: height of the object in pixels, without its outline.
      outline: thickness of the outline in pixels, 0 for none.

    Returns:
      uint8[height + 2 * outline, width + 2 * outline], read-only.
    """
    image = Image.new("L", (width + 2 * outline, height + 2 * outline))
    draw = ImageDraw.Draw(image)
    # Integer corners give the same polygon on every machine.
    for paint, polygon in _PARTS[kind]:
        corners = []
        for x, y in polygon:
            # Rounding to four decimals hides the last bits, in which cosines differ.
            column = round((round(x, 4) + 1) * (width - 1) / 2)
            row = round((round(y, 4) + 1) * (height - 1) / 2)
            corners.append((outline + column, outline + row))
        draw.polygon(corners, fill=int(paint))
    indices = np.array(image)
    if outline:
        solid = Image.fromarray(np.where(indices > 0, np.uint8(255), np.uint8(0)))
        grown = np.array(solid.filter(ImageFilter.MaxFilter(2 * outline + 1)))
        indices[(grown > 0) & (indices == 0)] = Paint.OUTLINE
    indices.setflags(write=False)
    return indices


@functools.lru_cache(maxsize=1024)
def pattern(texture: str, width: int, height: int) -> np.ndarray:
    """Returns the mask of a texture's second colour.

    Args:
      texture: "striped", "dotted", "checkered" or "ringed".
      width: width of the tile in pixels.
      height: height of the tile in pixels.

    Returns:
      bool[height, width], read-only.
    """
    # Lengths are relative to the object, so a texture looks the same at any size.
    x = np.arange(width)[None, :]
    y = np.arange(height)[:, None]
    if texture == "striped":
        mask = (y * 7 // height) % 2 == 1
        mask = np.broadcast_to(mask, (height, width))
    elif texture == "checkered":
        mask = (x * 4 // width + y * 4 // height) % 2 == 1
    elif texture == "dotted":
        # Distance to the nearest lattice centre, in 1/1000 of a lattice cell.
        dx = x * 3000 // width % 1000 - 500
        dy = y * 3000 // height % 1000 - 500
        mask = dx * dx + dy * dy < 320 * 320
    elif texture == "ringed":
        dx = (2 * x + 1 - width) * 1000 // width
        dy = (2 * y + 1 - height) * 1000 // height
        square = dx * dx + dy * dy  # 1e6 at the rim
        edges = [(1000 * i // 5) ** 2 for i in range(1, 10)]
        mask = np.searchsorted(edges, square) % 2 == 1
    else:
        raise ValueError(f"unknown texture {texture!r}")
    mask = np.ascontiguousarray(mask)
    mask.setflags(write=False)
    return mask


_SILHOUETTE = 48


def covers(kind: str, x: float, y: float) -> bool:
    """Whether the point (x, y) of the square from -1 to 1 is on the object."""
    column = int((x + 1) * _SILHOUETTE / 2)
    row = int((y + 1) * _SILHOUETTE / 2)
    if not (0 <= column < _SILHOUETTE and 0 <= row < _SILHOUETTE):
        return False
    return bool(tile(kind, _SILHOUETTE, _SILHOUETTE, 0)[row, column])
