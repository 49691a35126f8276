"""Places the objects of a scene.

Every length is a share of the image (x of its width, y of its height), so one
description can be drawn at any size.
"""

from collections.abc import Sequence
from typing import Any

from rahf.datasets.scenes import grammar
from rahf.datasets.scenes.dice import Dice

Cell = tuple[float, float, float, float]  # left, top, right, bottom

_MARGIN = 0.03
_AXIS = {"left": 0, "right": 0, "above": 1, "below": 1}

#: Difficulty -> stated size -> half the extent of an object. Sizes are absolute, so
#: that "small" can be told from "large" in any scene.
RADII = {
    "simple": {"small": 0.11, "medium": 0.18, "large": 0.27},
    "full": {"small": 0.09, "medium": 0.15, "large": 0.22},
}


def place(
    dice: Dice,
    groups: Sequence[dict[str, Any]],
    relations: Sequence[dict[str, Any]],
    difficulty: str,
) -> list[dict[str, Any]]:
    """Places every object of the groups so that the relations hold.

    Args:
      dice: the source of random choices.
      groups: the groups to draw; a count of 0 leaves the place empty.
      relations: the relations to draw.
      difficulty: sets the sizes, see `RADII`.

    Returns:
      Objects `{"group", "kind", "color", "texture", "x", "y", "r", "mirrored"}`
      with centre and half extent in shares of the image; no two overlap.
    """
    cells = _cells(dice, len(groups), relations)
    objects = []
    for index, (group, cell) in enumerate(zip(groups, cells, strict=True)):
        size = RADII[difficulty][group["size"]]
        mirrored = group["kind"] not in ("arrow",) and dice.chance(0.5)
        for slot in _slots(cell, group["count"]):
            left, top, right, bottom = slot
            room = min(right - left, bottom - top) / 2
            radius = min(size * dice.uniform(0.94, 1.06), 0.92 * room)
            spare_x = (right - left) / 2 - radius - 0.01
            spare_y = (bottom - top) / 2 - radius - 0.01
            x = (left + right) / 2 + max(spare_x, 0) * dice.uniform(-0.7, 0.7)
            y = (top + bottom) / 2 + max(spare_y, 0) * dice.uniform(-0.7, 0.7)
            objects.append(
                {
                    "group": index,
                    "kind": group["kind"],
                    "color": group["color"],
                    "texture": group["texture"],
                    "x": round(x, 4),
                    "y": round(y, 4),
                    "r": round(radius, 4),
                    "mirrored": mirrored,
                }
            )
    return objects


def _slots(cell: Cell, count: int) -> list[Cell]:
    """Divides a cell among `count` objects so that each gets the most room."""
    left, top, right, bottom = cell
    width, height = right - left, bottom - top

    def room(columns: int) -> float:
        return min(width / columns, height / -(-count // columns))

    if not count:
        return []
    columns = max(range(1, count + 1), key=room)
    rows = -(-count // columns)
    slots = []
    for i in range(count):
        row, column = divmod(i, columns)
        # An incomplete last row is centred.
        in_row = min(columns, count - row * columns)
        x = left + width * (column + (columns - in_row) / 2) / columns
        y = top + height * row / rows
        slots.append((x, y, x + width / columns, y + height / rows))
    return slots


def _cells(dice: Dice, number: int, relations: Sequence[dict[str, Any]]) -> list[Cell]:
    """Divides the image among groups: first into pairs, then each pair in two."""
    whole = (_MARGIN, _MARGIN, 1 - _MARGIN, 1 - _MARGIN)
    if number == 1:
        return [whole]
    stated = {relation["first"]: relation["relation"] for relation in relations}
    any_relation = tuple(grammar.RELATIONS)
    first = stated.get(0) or dice.pick(any_relation)
    if number == 2:
        return _halves(whole, first)
    # The other half of the image lies across the pair's own axis.
    across = [name for name in any_relation if _AXIS[name] != _AXIS[first]]
    pair, rest = _halves(whole, dice.pick(across))
    if number == 3:
        return [*_halves(pair, first), rest]
    along = [name for name in any_relation if _AXIS[name] == _AXIS[first]]
    second = stated.get(2) or dice.pick(along)
    return [*_halves(pair, first), *_halves(rest, second)]


def _halves(cell: Cell, relation: str) -> list[Cell]:
    """Halves a cell such that the first half is `relation` of the second."""
    left, top, right, bottom = cell
    if _AXIS[relation] == 0:
        middle = (left + right) / 2
        halves = [(left, top, middle, bottom), (middle, top, right, bottom)]
    else:
        middle = (top + bottom) / 2
        halves = [(left, top, right, middle), (left, middle, right, bottom)]
    return halves if relation in ("left", "above") else halves[::-1]
