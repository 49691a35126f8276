"""Chooses the flaws of a scene and where they are visible.

Every flaw has `spots`: points (x, y in shares of the image) that cover the area where
it can be seen, spaced so that the disks around clicks on them join up.
"""

from collections.abc import Sequence
from typing import Any

from rahf.datasets.ratings.consolidation import POINT_RADIUS
from rahf.datasets.scenes import grammar, shapes
from rahf.datasets.scenes.dice import Dice

#: Distance between neighbouring spots; at 1.5 radii, disks leave no gaps.
SPACING = 1.5 * POINT_RADIUS

#: Kind of flaw -> difficulty -> number of flaws in a scene -> probability.
_NUMBER = {
    "misalignment": {
        "simple": {0: 0.25, 1: 0.55, 2: 0.2},
        "full": {0: 0.22, 1: 0.4, 2: 0.26, 3: 0.12},
    },
    "implausibility": {
        "simple": {0: 0.28, 1: 0.47, 2: 0.25},
        "full": {0: 0.27, 1: 0.38, 2: 0.23, 3: 0.12},
    },
    "aesthetics": {
        "simple": {0: 0.45, 1: 0.55},
        "full": {0: 0.35, 1: 0.45, 2: 0.2},
    },
}
_WEAKEST = {"simple": 0.6, "full": 0.35}

#: Difficulty -> contradiction -> weight; simple scenes have mostly conspicuous ones.
MISALIGNMENT = {
    "simple": {
        "color": 6.0,
        "missing": 1.5,
        "relation": 0.5,
        "count": 0.8,
        "texture": 0.8,
        "size": 0.5,
        "object": 1.2,
    },
    "full": {
        "color": 3.0,
        "missing": 2.0,
        "relation": 3.0,
        "count": 1.5,
        "texture": 1.5,
        "size": 1.5,
        "object": 1.2,
    },
}
IMPLAUSIBILITY = ("broken", "melted", "duplicated", "fragment", "smeared", "glitched")
AESTHETICS = ("blur", "noise", "washed", "clashing", "cropped")

# Colours that people confuse: a wrong colour is never one of these.
_NEAR = {
    "red": {"orange", "pink", "brown"},
    "orange": {"red", "yellow", "brown"},
    "yellow": {"orange"},
    "green": set(),
    "blue": {"purple"},
    "purple": {"blue", "pink"},
    "pink": {"red", "purple"},
    "brown": {"red", "orange", "black"},
    "black": {"brown"},
    "white": set(),
}
_DIRECTIONS = ((1, 0), (-1, 0), (0, 1), (0, -1))
_MOST = {1: 5, 2: 3, 3: 2, 4: 2}  # number of groups -> most objects in a group


def misalign(
    dice: Dice, scene: dict[str, Any], difficulty: str
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]:
    """Decides how the picture contradicts the prompt.

    Args:
      dice: the source of random choices.
      scene: from `grammar.compose`; not modified.
      difficulty: sets the number of flaws.

    Returns:
      The groups and the relations to draw, and the flaws: `{"flaw", "group",
      "words"}` with the indices of the words that are now wrong (for a wrong
      relation, `"group"` is the first of the two).
    """
    groups = [dict(group) for group in scene["groups"]]
    relations = [dict(relation) for relation in scene["relations"]]
    flaws: list[dict[str, Any]] = []
    for _ in range(dice.weighted(_NUMBER["misalignment"][difficulty])):
        options = _misalignments(scene, flaws, difficulty)
        if not options:
            break
        flaw, index = dice.weighted(options)
        group = groups[index]
        stated = scene["groups"][index]["words"]
        at = [stated[flaw]] if flaw in stated else []
        if flaw == "color":
            near = _NEAR[group["color"]] | {group["color"]}
            colors = grammar.allowed_colors(group["kind"])
            group["color"] = dice.pick([c for c in colors if c not in near])
        elif flaw == "missing":
            group["count"] = 0
            at = sorted(i for name, i in stated.items() if name != "count")
        elif flaw == "count":
            most = 2 if difficulty == "simple" else _MOST[len(groups)]
            counts = [n for n in range(1, most + 1) if n != group["count"]]
            group["count"] = dice.pick(counts)
        elif flaw == "texture":
            textures = ("plain", *grammar.TEXTURES)
            group["texture"] = dice.pick([t for t in textures if t != group["texture"]])
        elif flaw == "size":
            group["size"] = "large" if group["size"] == "small" else "small"
        elif flaw == "object":
            at = [stated["kind"]]
            present = {g["kind"] for g in groups}
            kinds = [k for k in grammar.KINDS if k not in present]
            color = group["color"]
            kinds = [k for k in kinds if (k, color) not in grammar.HELD_OUT]
            group["kind"] = dice.pick(kinds)
        else:
            relation = next(r for r in relations if r["first"] == index)
            relation["relation"] = grammar.OPPOSITE[relation["relation"]]
            at = [relation["word"]]
        flaws.append({"flaw": flaw, "group": index, "words": at})
    return groups, relations, flaws


def _misalignments(
    scene: dict[str, Any], flaws: Sequence[dict[str, Any]], difficulty: str
) -> dict[tuple[str, int], float]:
    """Returns the flaws that can still be added, with their weights."""
    done = {(flaw["flaw"], flaw["group"]) for flaw in flaws}
    touched = {group for _, group in done}
    touched |= {group + 1 for flaw, group in done if flaw == "relation"}
    missing = {group for flaw, group in done if flaw == "missing"}
    replaced = {g for flaw, g in done if flaw in ("object", "color")}
    groups = scene["groups"]
    options = {}
    for index, group in enumerate(groups):
        for flaw in ("color", "texture", "size", "count", "object", "missing"):
            if index in missing or (flaw, index) in done:
                continue
            if flaw in ("color", "texture", "size") and flaw not in group["words"]:
                continue
            # At most one, so that the group can still be recognised.
            if flaw in ("color", "object") and index in replaced:
                continue
            if flaw == "missing" and (len(groups) == 1 or missing or index in touched):
                continue
            # There is no room for several large objects.
            if flaw == "count" and (
                group["size"] == "large" or ("size", index) in done
            ):
                continue
            if flaw == "size" and ("count", index) in done:
                continue
            if difficulty == "simple" and flaw == "count" and len(groups) > 1:
                continue
            options[flaw, index] = MISALIGNMENT[difficulty][flaw]
    for relation in scene["relations"]:
        pair = {relation["first"], relation["second"]}
        if not pair & missing and ("relation", relation["first"]) not in done:
            options["relation", relation["first"]] = MISALIGNMENT[difficulty][
                "relation"
            ]
    return options


def show_misalignments(scene: dict[str, Any]) -> None:
    """Adds the spots where each misalignment is visible.

    These are all over the objects of the group, or of both groups for a wrong
    relation; a missing object has none.
    """
    for flaw in scene["misalignment"]:
        groups = {flaw["group"]}
        if flaw["flaw"] == "relation":
            groups.add(flaw["group"] + 1)
        flaw["spots"] = [
            spot
            for thing in scene["objects"]
            if thing["group"] in groups
            for spot in object_spots(thing)
        ]


def damage(
    dice: Dice, objects: Sequence[dict[str, Any]], difficulty: str
) -> list[dict[str, Any]]:
    """Decides which objects are damaged, how and how strongly.

    Args:
      dice: the source of random choices.
      objects: from `layout.place`.
      difficulty: sets the number of flaws and their least strength.

    Returns:
      Flaws `{"flaw", "object", "strength", "dx", "dy", "seed", "spots", ...}`; see
      `drawing` for the remaining keys. An object has at most one flaw.
    """
    flaws = []
    whole = {i: thing["r"] for i, thing in enumerate(objects)}
    for _ in range(dice.weighted(_NUMBER["implausibility"][difficulty])):
        if not whole:
            break
        target = dice.weighted(whole)
        del whole[target]
        flaw = _damage_one(dice, objects[target], dice.pick(IMPLAUSIBILITY), difficulty)
        if flaw["spots"]:
            flaws.append({"object": target, **flaw})
    return flaws


def _damage_one(
    dice: Dice, thing: dict[str, Any], name: str, difficulty: str
) -> dict[str, Any]:
    """Damages one object; the spots cover the area of the damage."""
    x, y, r = thing["x"], thing["y"], thing["r"]
    strength = round(dice.uniform(_WEAKEST[difficulty], 1.0), 3)
    side = -1 if thing["mirrored"] else 1
    solid = [
        (dx, dy)
        for dx, dy in _DIRECTIONS
        if shapes.covers(thing["kind"], 0.55 * dx * side, 0.55 * dy)
    ]
    # Prefer directions away from the image's edge, so that the damage is visible.
    inner = [(dx, dy) for dx, dy in solid if _inside(x + 2 * r * dx, y + 2 * r * dy)]
    dx, dy = dice.pick(inner or solid or _DIRECTIONS)
    flaw = {
        "flaw": name,
        "strength": strength,
        "dx": dx,
        "dy": dy,
        "seed": dice.integer(1 << 30),
    }
    more, boxes = _SHAPES[name](dice, thing, strength, (dx, dy))
    flaw |= more
    flaw["spots"] = [spot for box in boxes for spot in box_spots(*box)]
    return flaw


_Shape = tuple[dict[str, Any], list[tuple[float, ...]]]  # a flaw's fields and boxes


def _broken(dice: Dice, thing, strength: float, direction) -> _Shape:
    del direction
    x, y, r = thing["x"], thing["y"], thing["r"]
    shift = round((0.4 + 0.6 * strength) * r, 4)
    crack = round(dice.uniform(-0.2, 0.2), 3)
    half = 0.45 * r + 0.3 * shift
    boxes = [_box(x, y + crack * r, r + shift / 2, half)]
    return {"shift": shift, "crack": crack}, boxes


def _melted(dice: Dice, thing, strength: float, direction) -> _Shape:
    del dice, direction
    x, y, r = thing["x"], thing["y"], thing["r"]
    drip = round((0.5 + 0.7 * strength) * r, 4)
    return {"drip": drip}, [(x - r, y, x + r, y + r + 0.7 * drip)]


def _duplicated(dice: Dice, thing, strength: float, direction) -> _Shape:
    del dice
    (x, y, r), (dx, dy) = (thing["x"], thing["y"], thing["r"]), direction
    shift = round((0.6 + 0.5 * strength) * r, 4)
    center = 0.5 * r + shift
    along, beside = 0.5 * r, r
    half_x, half_y = (along, beside) if dx else (beside, along)
    boxes = [_box(x + dx * center, y + dy * center, half_x, half_y)]
    return {"shift": shift}, boxes


def _fragment(dice: Dice, thing, strength: float, direction) -> _Shape:
    (x, y, r), (dx, dy) = (thing["x"], thing["y"], thing["r"]), direction
    size = round((0.35 + 0.2 * strength) * r, 4)
    far = r * dice.uniform(1.5, 1.9)
    around = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1))
    spots = [(x + far * a, y + far * b) for a, b in dice.sample(around, 8)]
    fx, fy = next((spot for spot in spots if _inside(*spot, margin=size)), spots[0])
    hole = _box(x + 0.6 * dx * r, y + 0.6 * dy * r, size, size)
    fields = {"size": size, "x": round(fx, 4), "y": round(fy, 4)}
    return fields, [_box(fx, fy, size, size), hole]


def _smeared(dice: Dice, thing, strength: float, direction) -> _Shape:
    del dice
    (x, y, r), (dx, dy) = (thing["x"], thing["y"], thing["r"]), direction
    pull = round(0.62 - 0.27 * strength, 4)
    ends = (0.3 * r, r / pull)
    if dx:
        near, far = sorted(x + dx * end for end in ends)
        return {"pull": pull}, [(near, y - 0.75 * r, far, y + 0.75 * r)]
    near, far = sorted(y + dy * end for end in ends)
    return {"pull": pull}, [(x - 0.75 * r, near, x + 0.75 * r, far)]


def _glitched(dice: Dice, thing, strength: float, direction) -> _Shape:
    del direction
    x, y, r = thing["x"], thing["y"], thing["r"]
    half_x = 0.08 + 0.08 * strength
    half_y = 0.06 + 0.06 * strength
    center_x = x + dice.uniform(-0.6, 0.6) * r
    center_y = y + dice.uniform(-0.6, 0.6) * r
    box = _box(center_x, center_y, half_x, half_y)
    box = tuple(round(min(max(edge, 0.0), 1.0), 4) for edge in box)
    return {"box": list(box)}, [box]


_SHAPES = {
    "broken": _broken,
    "melted": _melted,
    "duplicated": _duplicated,
    "fragment": _fragment,
    "smeared": _smeared,
    "glitched": _glitched,
}


def spoil(dice: Dice, difficulty: str) -> list[dict[str, Any]]:
    """Decides what makes the picture ugly; returns `{"flaw", "strength", "seed"}`s."""
    number = dice.weighted(_NUMBER["aesthetics"][difficulty])
    return [
        {
            "flaw": name,
            "strength": round(dice.uniform(_WEAKEST[difficulty], 1.0), 3),
            "seed": dice.integer(1 << 30),
        }
        for name in dice.sample(AESTHETICS, number)
    ]


def crop(
    dice: Dice, objects: Sequence[dict[str, Any]], aesthetics: Sequence[dict[str, Any]]
) -> None:
    """Moves the objects across the image's edge if "cropped" is among the flaws.

    At full strength the outermost object is cut in half.
    """
    for flaw in aesthetics:
        if flaw["flaw"] != "cropped" or not objects:
            continue
        axis = dice.pick("xy")
        share = 0.6 + 0.4 * flaw["strength"]
        if dice.chance(0.5):
            shift = -min(thing[axis] for thing in objects) * share
        else:
            shift = (1 - max(thing[axis] for thing in objects)) * share
        for thing in objects:
            thing[axis] = round(thing[axis] + shift, 4)


def object_spots(thing: dict[str, Any]) -> list[list[float]]:
    """Returns spots all over an object's silhouette, inside the image."""
    x, y, r = thing["x"], thing["y"], thing["r"]
    side = -1 if thing["mirrored"] else 1
    spots = [
        spot
        for spot in box_spots(x - r, y - r, x + r, y + r)
        if shapes.covers(thing["kind"], side * (spot[0] - x) / r, (spot[1] - y) / r)
    ]
    return spots or box_spots(x, y, x, y)


def box_spots(
    left: float, top: float, right: float, bottom: float
) -> list[list[float]]:
    """Returns an even grid of spots over a box, without those outside the image."""
    columns = max(1, round((right - left) / SPACING))
    rows = max(1, round((bottom - top) / SPACING))
    spots = []
    for row in range(rows):
        y = round(top + (row + 0.5) * (bottom - top) / rows, 4)
        for column in range(columns):
            x = round(left + (column + 0.5) * (right - left) / columns, 4)
            if _inside(x, y, margin=0):
                spots.append([x, y])
    return spots


def _box(
    x: float, y: float, half_x: float, half_y: float
) -> tuple[float, float, float, float]:
    return (x - half_x, y - half_y, x + half_x, y + half_y)


def _inside(x: float, y: float, margin: float = 0.04) -> bool:
    return margin <= x <= 1 - margin and margin <= y <= 1 - margin
