"""Draws a scene from its description.

Integer arithmetic throughout, so that a scene has the same bytes on every machine.
"""

from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from rahf.datasets.scenes import shapes
from rahf.datasets.scenes.dice import Dice
from rahf.datasets.scenes.shapes import Paint

RGB = tuple[int, int, int]

COLORS: dict[str, RGB] = {
    "red": (214, 36, 36),
    "orange": (246, 132, 28),
    "yellow": (250, 218, 40),
    "green": (40, 150, 60),
    "blue": (40, 90, 215),
    "purple": (128, 48, 170),
    "pink": (252, 142, 190),
    "brown": (122, 72, 34),
    "black": (26, 26, 30),
    "white": (248, 248, 248),
}

# Sky at the top and at the horizon, ground at the horizon and at the bottom, and
# the height of the horizon in percent. Pale, so that objects stand out.
_BACKGROUNDS: dict[str, tuple[RGB, RGB, RGB, RGB, int]] = {
    "plain": ((226, 226, 222), (216, 216, 212), (216, 216, 212), (206, 206, 202), 50),
    "meadow": ((188, 216, 240), (222, 236, 246), (190, 214, 160), (164, 196, 130), 42),
    "snow": ((190, 206, 224), (214, 226, 238), (228, 234, 240), (220, 228, 236), 45),
    "beach": ((176, 220, 240), (140, 196, 224), (238, 222, 182), (228, 208, 164), 46),
    "desert": ((230, 214, 180), (240, 226, 196), (226, 196, 146), (214, 180, 128), 38),
    "night": ((34, 42, 84), (62, 72, 122), (56, 70, 96), (46, 58, 82), 64),
    "sunset": ((236, 170, 140), (250, 212, 164), (176, 140, 150), (150, 118, 134), 56),
    "room": ((222, 206, 196), (214, 196, 186), (182, 152, 128), (170, 140, 116), 66),
}
_CLASHING: tuple[RGB, RGB, RGB, RGB] = (
    *((190, 255, 30), (60, 240, 220)),
    *((255, 60, 210), (255, 120, 0)),
)
_PAPER: RGB = (244, 240, 228)

_INK: RGB = (40, 36, 36)
_WOOD: RGB = (140, 96, 58)
_PALE: RGB = (240, 236, 214)


def draw(scene: dict[str, Any], size: tuple[int, int]) -> np.ndarray:
    """Draws a scene with all its flaws.

    Args:
      scene: from `description.describe`.
      size: height and width in pixels.

    Returns:
      uint8[H, W, 3].
    """
    height, width = size
    # Drawing at twice the size and averaging smooths edges, which matters when small.
    scale = 2 if min(size) <= 256 else 1
    canvas = _background(scene, height * scale, width * scale)
    damage = {flaw["object"]: flaw for flaw in scene["implausibility"]}
    for index, thing in enumerate(scene["objects"]):
        _draw_object(canvas, scene, thing, damage.get(index))
    for index, flaw in damage.items():
        if flaw["flaw"] == "smeared":
            _smear(canvas, scene["objects"][index], flaw)
    if scene["style"] == "poster":
        _frame(canvas)
    image = canvas
    if scale > 1:
        image = np.asarray(Image.fromarray(canvas).reduce(scale))
    image = image.copy()
    for flaw in scene["implausibility"]:
        if flaw["flaw"] == "glitched":
            _glitch(image, flaw)
    for flaw in scene["aesthetics"]:
        if flaw["flaw"] in _FINISH:
            image = _FINISH[flaw["flaw"]](image, flaw)
    return image


def _mix(color: RGB, other: RGB, percent: int) -> RGB:
    """Mixes `percent` of the other colour into the first."""
    r, g, b = (
        (a * (100 - percent) + c * percent) // 100
        for a, c in zip(color, other, strict=True)
    )
    return (r, g, b)


def _background(scene: dict[str, Any], height: int, width: int) -> np.ndarray:
    """Draws two vertical gradients that meet at the horizon."""
    *colors, percent = _BACKGROUNDS[scene["background"]]
    for flaw in scene["aesthetics"]:
        if flaw["flaw"] == "clashing":
            strength = 35 + int(60 * flaw["strength"])
            colors = [
                _mix(color, loud, strength)
                for color, loud in zip(colors, _CLASHING, strict=True)
            ]
    if scene["style"] in ("sketch", "watercolor"):
        colors = [_mix(color, _PAPER, 55) for color in colors]
    corners = np.clip(np.array(colors) + scene["tint"], 0, 255)
    horizon = height * percent // 100
    rows = np.empty((height, 3), np.int64)
    spans = ((0, horizon, 0), (horizon, height, 2))
    for start, stop, first in spans:
        step = np.arange(stop - start)[:, None]
        top, bottom = corners[first], corners[first + 1]
        rows[start:stop] = top + (bottom - top) * step // (stop - start)
    canvas = np.empty((height, width, 3), np.uint8)
    canvas[:] = rows[:, None, :]
    return canvas


def _palette(scene: dict[str, Any], thing: dict[str, Any]) -> np.ndarray:
    """Returns the colours of one object's paints: uint8[8, 3]."""
    color = COLORS[thing["color"]]
    red, green, blue = color
    bright = (299 * red + 587 * green + 114 * blue) // 1000
    style = scene["style"]
    outline = _INK
    if thing["color"] == "black" or scene["background"] == "night":
        outline = (208, 208, 200)
    if style == "sticker":
        outline = (255, 246, 214)
    elif style == "watercolor":
        outline = _mix(color, (0, 0, 0), 35)
    elif style == "sketch":
        outline = (110, 110, 110)
    palette = {
        Paint.NONE: (0, 0, 0),
        Paint.BODY: color,
        Paint.SHADE: _mix(color, (0, 0, 0), 25),
        Paint.PATTERN: (70, 70, 74) if bright > 150 else (236, 236, 230),
        Paint.DARK: _INK,
        Paint.LIGHT: _PALE,
        Paint.WOOD: _WOOD,
        Paint.OUTLINE: outline,
    }
    if thing["color"] == "black":
        palette[Paint.SHADE] = (60, 60, 66)
        palette[Paint.DARK] = (150, 150, 150)
        palette[Paint.PATTERN] = (176, 176, 180)
    return np.array([palette[paint] for paint in Paint], np.uint8)


def _draw_object(
    canvas: np.ndarray,
    scene: dict[str, Any],
    thing: dict[str, Any],
    flaw: dict[str, Any] | None,
) -> None:
    """Draws one object, misshapen if its flaw says so."""
    rows, columns = canvas.shape[:2]
    style = scene["style"]
    outline = max(1, rows * (24 if style in ("cartoon", "sticker") else 13) // 1000)
    width = max(4, round(2 * thing["r"] * columns))
    height = max(4, round(2 * thing["r"] * rows))
    indices = shapes.tile(thing["kind"], width, height, outline)
    if thing["texture"] != "plain":
        mask = shapes.pattern(thing["texture"], *indices.shape[::-1])
        indices = indices.copy()
        indices[mask & (indices == Paint.BODY)] = Paint.PATTERN
    if thing["mirrored"]:
        indices = indices[:, ::-1]
    left = round(thing["x"] * columns) - indices.shape[1] // 2
    top = round(thing["y"] * rows) - indices.shape[0] // 2
    pieces = [(indices, left, top)]
    if flaw and flaw["flaw"] in _SHAPE:
        pieces = _SHAPE[flaw["flaw"]](indices, left, top, flaw, rows, columns)
    palette = _palette(scene, thing)
    if style == "cutout":
        drop = max(1, rows * 20 // 1000)
        for piece, x, y in pieces:
            _shadow(canvas, piece, x + drop, y + drop)
    for piece, x, y in pieces:
        _paste(canvas, piece, x, y, palette)


def _clip(
    canvas: np.ndarray, piece: np.ndarray, left: int, top: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the part of the canvas under a piece, and the visible part of it."""
    rows, columns = canvas.shape[:2]
    height, width = piece.shape
    y0, y1 = max(top, 0), max(min(top + height, rows), 0)
    x0, x1 = max(left, 0), max(min(left + width, columns), 0)
    seen = piece[max(y0 - top, 0) : y1 - top, max(x0 - left, 0) : x1 - left]
    if y1 <= y0 or x1 <= x0:
        return canvas[:0, :0], piece[:0, :0]
    return canvas[y0:y1, x0:x1], seen


def _paste(
    canvas: np.ndarray, piece: np.ndarray, left: int, top: int, palette: np.ndarray
) -> None:
    under, seen = _clip(canvas, piece, left, top)
    np.copyto(under, palette[seen], where=(seen > 0)[..., None])


def _shadow(canvas: np.ndarray, piece: np.ndarray, left: int, top: int) -> None:
    under, seen = _clip(canvas, piece, left, top)
    np.copyto(under, under // 10 * 6, where=(seen > 0)[..., None])


# Flaws of shape turn a tile of paints into pieces (tile, left, top), pasted in order.
Pieces = list[tuple[np.ndarray, int, int]]


def _broken(indices, left, top, flaw, rows, columns) -> Pieces:
    """Slides two halves apart along a jagged crack."""
    height, width = indices.shape
    shift = max(2, round(flaw["shift"] * columns))
    gap = max(1, shift // 4)
    tooth = max(2, width // 6)
    jag = np.abs(np.arange(width) % (2 * tooth) - tooth) * 2 // 3
    crack = height // 2 + round(flaw["crack"] * height / 2) + jag - tooth // 3
    upper = np.arange(height)[:, None] < crack
    slide = shift // 2 if flaw["seed"] % 2 else -(shift // 2)
    return [
        (np.where(upper, indices, 0), left - slide, top - gap),
        (np.where(upper, 0, indices), left + slide, top + gap),
    ]


def _melted(indices, left, top, flaw, rows, columns) -> Pieces:
    """Makes the lower half run down in drips."""
    height, width = indices.shape
    drip = max(2, round(flaw["drip"] * rows))
    middle = height // 2
    dice = Dice("melted", flaw["seed"])
    # Drip lengths in percent at evenly spaced columns, linear in between.
    knots = [100 if i % 2 else dice.integer(40) for i in range(8)]
    at = np.arange(width) * 6000 // width  # column in 1/1000 of a knot interval
    low = np.array(knots)[at // 1000]
    high = np.array(knots)[at // 1000 + 1]
    length = drip * (low * (1000 - at % 1000) + high * (at % 1000)) // 100_000
    half = height - middle
    row = np.arange(height + drip)[:, None]
    source = middle + (row - middle) * half // (half + length)
    source = np.where(row < middle, row, source)
    gone = source >= height
    melted = np.take_along_axis(indices, np.minimum(source, height - 1), axis=0)
    return [(np.where(gone, 0, melted), left, top)]


def _duplicated(indices, left, top, flaw, rows, columns) -> Pieces:
    """Repeats one half of the object beside it."""
    height, width = indices.shape
    x = round(flaw["dx"] * flaw["shift"] * columns)
    y = round(flaw["dy"] * flaw["shift"] * rows)
    half = np.zeros_like(indices)
    across = slice(width // 2, None) if x > 0 else slice(0, width // 2)
    along = slice(height // 2, None) if y > 0 else slice(0, height // 2)
    part = (slice(None), across) if flaw["dx"] else (along, slice(None))
    half[part] = indices[part]
    return [(half, left + x, top + y), (indices, left, top), (half, left + x, top + y)]


def _fragment(indices, left, top, flaw, rows, columns) -> Pieces:
    """Tears a piece out of the object and puts it beside it, rotated."""
    height, width = indices.shape
    half_x = max(2, round(flaw["size"] * columns))
    half_y = max(2, round(flaw["size"] * rows))
    center_x = width // 2 + round(0.3 * flaw["dx"] * width)
    center_y = height // 2 + round(0.3 * flaw["dy"] * height)
    y = slice(max(center_y - half_y, 0), center_y + half_y)
    x = slice(max(center_x - half_x, 0), center_x + half_x)
    piece = np.rot90(indices[y, x])
    rest = indices.copy()
    rest[y, x] = 0
    return [
        (rest, left, top),
        (
            piece,
            round(flaw["x"] * columns) - piece.shape[1] // 2,
            round(flaw["y"] * rows) - piece.shape[0] // 2,
        ),
    ]


_SHAPE = {
    "broken": _broken,
    "melted": _melted,
    "duplicated": _duplicated,
    "fragment": _fragment,
}


def _smear(canvas: np.ndarray, thing: dict[str, Any], flaw: dict[str, Any]) -> None:
    """Stretches one half of the object outwards, line by line."""
    horizontal = flaw["dx"] != 0
    # A view in which the smear runs along axis 1, towards larger indices.
    view = canvas if horizontal else canvas.transpose(1, 0, 2)
    center, beside = thing["x"], thing["y"]
    if not horizontal:
        center, beside = beside, center
    if flaw["dx"] + flaw["dy"] < 0:
        view = view[:, ::-1]
        center = 1 - center
    rows, columns = view.shape[:2]
    start = max(round(center * columns), 0)
    stop = min(round((center + thing["r"] / flaw["pull"]) * columns), columns)
    low = max(round((beside - 0.75 * thing["r"]) * rows), 0)
    high = min(round((beside + 0.75 * thing["r"]) * rows), rows)
    if stop <= start or high <= low:
        return
    dice = Dice("smeared", flaw["seed"])
    # Bands of lines are pulled by different amounts (in 1/1000), and every other one
    # is darker, so that a smear also shows on an even surface.
    pulls = [int(1000 * flaw["pull"] * dice.uniform(0.75, 1.1)) for _ in range(9)]
    band = np.arange(high - low) * 9 // (high - low)
    pull = np.array(pulls)[band]
    step = np.arange(stop - start)
    source = start + step[None, :] * pull[:, None] // 1000
    lines = np.arange(low, high)[:, None]
    smear = view[lines, np.minimum(source, columns - 1)]
    smear[band % 2 == 1] = smear[band % 2 == 1] // 5 * 4
    view[low:high, start:stop] = smear


def _glitch(image: np.ndarray, flaw: dict[str, Any]) -> None:
    """Displaces the lines of a block and changes its colours."""
    rows, columns = image.shape[:2]
    left, top, right, bottom = flaw["box"]
    x0, x1 = round(left * columns), round(right * columns)
    y0, y1 = round(top * rows), round(bottom * rows)
    block = image[y0:y1, x0:x1]
    dice = Dice("glitched", flaw["seed"])
    bands = 5
    for band in range(bands):
        start, stop = (block.shape[0] * (band + i) // bands for i in (0, 1))
        lines = np.roll(block[start:stop], dice.integer(max(x1 - x0, 1)), axis=1)
        flip = np.array([255 * dice.integer(2) for _ in range(3)], np.uint8)
        if not flip.any():
            flip[dice.integer(3)] = 255
        block[start:stop] = lines[..., dice.sample((0, 1, 2), 3)] ^ flip


def _frame(canvas: np.ndarray) -> None:
    """Draws a dark border with a pale line inside it."""
    edge = max(2, canvas.shape[0] * 22 // 1000)
    for start, stop, color in ((0, edge, _INK), (edge, 2 * edge, _PALE)):
        canvas[start:stop] = color
        canvas[canvas.shape[0] - stop : canvas.shape[0] - start] = color
        canvas[start : canvas.shape[0] - start, start:stop] = color
        columns = slice(canvas.shape[1] - stop, canvas.shape[1] - start)
        canvas[start : canvas.shape[0] - start, columns] = color


# Flaws of the finished image.


def _blur(image: np.ndarray, flaw: dict[str, Any]) -> np.ndarray:
    radius = round((0.007 + 0.015 * flaw["strength"]) * image.shape[0], 2)
    return np.array(Image.fromarray(image).filter(ImageFilter.BoxBlur(radius)))


def _noise(image: np.ndarray, flaw: dict[str, Any]) -> np.ndarray:
    amplitude = 20 + int(50 * flaw["strength"])
    # NumPy guarantees the values of random_raw, unlike those of other methods.
    words = np.random.PCG64(flaw["seed"]).random_raw((image.size + 7) // 8)
    grain = words.astype("<u8").view(np.int8)[: image.size].reshape(image.shape)
    grain = grain.astype(np.int16) * amplitude // 128
    return np.clip(image + grain, 0, 255).astype(np.uint8)


def _wash(image: np.ndarray, flaw: dict[str, Any]) -> np.ndarray:
    keep = 80 - int(32 * flaw["strength"])
    faded = image.astype(np.uint16) * keep + 196 * (100 - keep)
    return (faded // 100).astype(np.uint8)


_FINISH = {"blur": _blur, "noise": _noise, "washed": _wash}
