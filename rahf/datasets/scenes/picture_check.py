"""Whether a picture of scenes shows what its prompt says, without any trained model.

For prompts where that can be read off the pixels: is there something of each stated colour,
and is it as many as stated? Pixels are given to the nearest colour of the palette or to the
background, regions of a colour are looked for, and what is too small to tell is left open.
Kinds of objects, sizes, textures and relations are not looked at.

`rahf.evaluation.checked_pictures` measures how often it is wrong on true scenes;
docs/judge.md has the numbers. All areas and thresholds were set on training scenes.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from rahf import images as images_lib
from rahf import words
from rahf.datasets.scenes import drawing, grammar

YES, NO, UNDECIDABLE = "yes", "no", "undecidable"
#: The side at which pictures are read, in pixels; areas below are shares of its square.
SIDE = 64

# Colour -> a region of at most this share says "not there", one of at least this "there".
# Outlines, wheels and doors are dark whatever an object's colour, and brown is a dark
# orange; pale pinks are also what is left of a faded red.
_USUAL = (0.004, 0.012)
_AREAS = {"brown": (0.008, 0.024), "black": (0.008, 0.04), "pink": (0.003, 0.022)}
#: Backgrounds are nearly white, so white objects cannot be told from them.
_UNSEEN = ("white",)
#: Next to the largest region, one of at least the second share is another object, one of
#: at most the first is a scrap.
_SCRAP, _ANOTHER = 0.15, 0.7

_GREY = 196.0  # what the flaw "washed" fades to, at most by this share
_FADED = 0.52
_IS_BACKGROUND = 30.0  # distance in RGB
_IS_NOTHING = 60.0
_KINDS = {name: kind for kind, many in grammar.KINDS.items() for name in (kind, many)}
_COUNTS = {word: number for number, word in enumerate(grammar.COUNTS, 1)}
_COUNTS |= {"an": 1, "one": 1}
_SIZES = {word for phrases in grammar.SIZES.values() for word in phrases}


@dataclasses.dataclass(frozen=True)
class StatedGroup:
    """What a prompt says of one group of objects.

    Attributes:
      kind: one of `grammar.KINDS`.
      count: how many; None if it is not said.
      color: one of `grammar.COLORS`; None if it is not said.
      texture: one of `grammar.TEXTURES`; None if it is not said.
    """

    kind: str
    count: int | None
    color: str | None
    texture: str | None


@dataclasses.dataclass(frozen=True)
class CheckedStatement:
    """What the picture shows of one statement.

    Attributes:
      group: the index of the group in the prompt.
      statement: "color" or "count".
      answer: "yes", "no" or "undecidable".
      reason: why, for people.
    """

    group: int
    statement: str
    answer: str
    reason: str


@dataclasses.dataclass(frozen=True)
class CheckedPicture:
    """What a picture shows of its prompt.

    Attributes:
      statements: one for the colour and one for the count of each group.
      answer: "no" if any statement is; "yes" if none is, and the colour of every group
        was decided; else "undecidable".
      reason: that of the statement that decided, for people.
    """

    statements: tuple[CheckedStatement, ...]
    answer: str
    reason: str


def read_prompt(prompt: str) -> list[StatedGroup]:
    """Returns the groups of objects that a prompt names, as far as the grammar goes."""
    found, spoken = [], [word.lower() for word in words.split(prompt)]
    for end, word in enumerate(spoken):
        if word not in _KINDS:
            continue
        color = texture = None
        at = end - 1
        while at >= 0 and spoken[at] in (*_SIZES, *grammar.COLORS, *grammar.TEXTURES):
            color = spoken[at] if spoken[at] in grammar.COLORS else color
            texture = spoken[at] if spoken[at] in grammar.TEXTURES else texture
            at -= 1
        count = _COUNTS.get(spoken[at]) if at >= 0 else None
        found.append(StatedGroup(_KINDS[word], count, color, texture))
    return found


def check_picture(image: np.ndarray, prompt: str) -> CheckedPicture:
    """Looks for what a prompt says in a picture.

    Args:
      image: uint8[H, W, 3].
      prompt: its prompt; one that names nothing the grammar knows is undecidable.
    """
    groups = read_prompt(prompt)
    colors = [group.color for group in groups]
    nearest = nearest_colors(image) if any(colors) else None
    statements: list[CheckedStatement] = []
    for index, group in enumerate(groups):
        areas = []
        if nearest is not None and group.color:
            areas = region_areas(nearest == group.color)
        color = _check_color(group, areas, colors)
        count = _check_count(group, areas, color[0])
        statements += [
            CheckedStatement(index, "color", *color),
            CheckedStatement(index, "count", *count),
        ]
    return CheckedPicture(tuple(statements), *_conclude(statements))


def _conclude(statements: Sequence[CheckedStatement]) -> tuple[str, str]:
    for each in statements:
        if each.answer == NO:
            return NO, each.reason
    seen = [each for each in statements if each.statement == "color"]
    for each in seen:
        if each.answer == UNDECIDABLE:
            return UNDECIDABLE, each.reason
    if not seen:
        return UNDECIDABLE, "the prompt names no object of scenes"
    return YES, "; ".join(each.reason for each in seen)


def _check_color(
    group: StatedGroup, areas: Sequence[float], colors: Sequence[str | None]
) -> tuple[str, str]:
    color, named = group.color, f"the {group.kind}"
    if color is None:
        return UNDECIDABLE, f"the prompt does not say which colour {named} has"
    if color in _UNSEEN:
        return UNDECIDABLE, f"{color} cannot be told from a background"
    low, high = _AREAS.get(color, _USUAL)
    largest = max(areas, default=0.0)
    seen = f"the largest {color} region is {largest:.1%} of the picture"
    if largest <= low and not group.texture:
        return NO, seen
    if largest < high:
        why = ", too small to tell" if largest > low else f", and {named} has a pattern"
        return UNDECIDABLE, seen + why
    if colors.count(color) > 1 or None in colors:
        return UNDECIDABLE, f"{seen}, which may be another object than {named}"
    return YES, seen


def _check_count(
    group: StatedGroup, areas: Sequence[float], color: str
) -> tuple[str, str]:
    if group.count is None:
        return UNDECIDABLE, "the prompt does not say how many"
    if color != YES:
        return UNDECIDABLE, f"it is not known which regions are the {group.kind}"
    if group.texture:
        return UNDECIDABLE, "a pattern may divide an object into several regions"
    shares = [area / max(areas) for area in areas]
    number = sum(share >= _ANOTHER for share in shares)
    found = f"{number} {group.color} regions where the prompt says {group.count}"
    if any(_SCRAP < share < _ANOTHER for share in shares):
        return UNDECIDABLE, f"{found}, and one too small for another and too large"
    if number > group.count:
        return UNDECIDABLE, f"{found}; a broken object has several"
    return (YES if number == group.count else NO), found


def nearest_colors(image: np.ndarray) -> np.ndarray:
    """Returns str[S, S], the palette's colour of each pixel, "" for background or none.

    Args:
      image: uint8[H, W, 3].
    """
    small = images_lib.resize(image, (SIDE, SIDE))
    pixels = ndimage.median_filter(small, size=(3, 3, 1)).astype(np.float64)
    away = np.linalg.norm(pixels - _background(pixels)[:, None], axis=-1)
    distances = [_distance(pixels, np.array(drawing.COLORS[c])) for c in grammar.COLORS]
    best = np.min(distances, axis=0)
    found = np.array(grammar.COLORS)[np.argmin(distances, axis=0)]
    nothing = (away < _IS_BACKGROUND) | (away - 8 < best) | (best > _IS_NOTHING)
    return np.where(nothing, "", found)


def region_areas(mask: np.ndarray) -> list[float]:
    """Returns the areas of connected regions, as shares of the picture.

    Regions less than three pixels apart are one: outlines and wheels divide objects.
    """
    near = np.ones((3, 3))
    regions = np.zeros(mask.shape, np.int32)
    ndimage.label(ndimage.binary_dilation(mask, near), near, regions)
    areas = np.bincount(regions.ravel(), mask.ravel())[1:]
    return (areas / mask.size).tolist()


def _background(pixels: np.ndarray) -> np.ndarray:
    """Returns float64[S, 3], the colour of each row at the edge that has no object."""
    left = np.median(pixels[:, :2], axis=1)
    right = np.median(pixels[:, -2:], axis=1)
    edge = np.concatenate([pixels[:, :2], pixels[:, -2:]], axis=1)  # [S, 4, 3]
    reach = SIDE // 12
    rows = [edge[max(0, y - reach) : y + reach + 1] for y in range(SIDE)]
    usual = np.stack([np.median(part.reshape(-1, 3), axis=0) for part in rows])
    nearer = np.abs(left - usual).sum(1) <= np.abs(right - usual).sum(1)
    return np.where(nearer[:, None], left, right)


def _distance(pixels: np.ndarray, color: np.ndarray) -> np.ndarray:
    """Returns how far pixels are from a colour, faded or not, in RGB: float64[S, S]."""
    fading = (_GREY - color) * _FADED
    share = np.clip((pixels - color) @ fading / (fading @ fading), 0, 1)
    return np.linalg.norm(pixels - color - share[..., None] * fading, axis=-1)
