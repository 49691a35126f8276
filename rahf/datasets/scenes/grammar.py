"""Invents scenes and writes their prompts.

`compose` invents the intent of a scene: groups of objects with a count, size,
texture and colour, relations between them, a background and a style. It also writes
the prompt and records, for every statement, the index of the word that makes it, so
that a flaw knows which words it falsifies.
"""

from collections.abc import Iterator
from typing import Any

from rahf.datasets.scenes.dice import Dice

#: Kind of object -> its plural.
KINDS = {
    "ball": "balls",
    "box": "boxes",
    "triangle": "triangles",
    "star": "stars",
    "heart": "hearts",
    "ring": "rings",
    "cross": "crosses",
    "moon": "moons",
    "arrow": "arrows",
    "house": "houses",
    "tree": "trees",
    "car": "cars",
    "boat": "boats",
    "fish": "fish",
    "flower": "flowers",
    "mushroom": "mushrooms",
}
COLORS = (
    *("red", "orange", "yellow", "green", "blue"),
    *("purple", "pink", "brown", "black", "white"),
)
TEXTURES = ("striped", "dotted", "checkered", "ringed")
SIZES = {"small": ("small", "tiny", "little"), "large": ("large", "big", "huge")}
COUNTS = ("a", "two", "three", "four", "five")
DIFFICULTIES = ("simple", "full")
MAX_WORDS = {"simple": 12, "full": 24}
MIN_WORDS = 4

#: Relation -> its phrasings; the word in capitals is the one that a wrong relation
#: falsifies ("to the LEFT of").
RELATIONS = {
    "left": ("LEFT of", "to the LEFT of", "on the LEFT of"),
    "right": ("RIGHT of", "to the RIGHT of", "on the RIGHT of"),
    "above": ("ABOVE", "OVER"),
    "below": ("BELOW", "UNDER", "BENEATH"),
}
OPPOSITE = {"left": "right", "right": "left", "above": "below", "below": "above"}

BACKGROUNDS = {
    "plain": ("on a plain background", "on a simple background"),
    "meadow": ("on a meadow", "in a green field"),
    "snow": ("in the snow", "in winter"),
    "beach": ("on a beach", "by the sea"),
    "desert": ("in the desert", "on dry sand"),
    "night": ("at night", "under a night sky"),
    "sunset": ("at sunset", "in the evening light"),
    "room": ("in a room", "on a table"),
}
STYLES = {
    "cartoon": ("cartoon style", "as a cartoon"),
    "cutout": ("paper cutout", "cut from paper"),
    "sticker": ("sticker style", "as a sticker"),
    "sketch": ("pencil sketch", "hand drawn"),
    "poster": ("vintage poster", "framed print"),
    "watercolor": ("watercolor painting", "soft watercolor"),
}
_OPENINGS = ("a picture of", "an image of", "a drawing of", "a scene with", "show me")
_REQUESTS = ("please draw", "can you draw", "i want", "create", "paint")
_TITLES = ("a picture called", "a card titled", "a print named")
_PRAISE = ("detailed", "high quality", "best quality", "beautiful", "simple shapes")

#: One colour of each kind is reserved for the test split: a tenth of all pairs.
HELD_OUT = frozenset(
    (kind, COLORS[(7 * index + 3) % len(COLORS)]) for index, kind in enumerate(KINDS)
)


def allowed_colors(kind: str) -> list[str]:
    """Returns the colours that a kind may have outside the test split."""
    return [color for color in COLORS if (kind, color) not in HELD_OUT]


def compose(dice: Dice, *, split: str, difficulty: str) -> dict[str, Any]:
    """Invents the intent of a scene and writes its prompt.

    Args:
      dice: the source of random choices.
      split: "train", "dev" or "test". About a third of the test scenes name a
        `HELD_OUT` pair of object and colour; no other split ever does.
      difficulty: one of `DIFFICULTIES`.

    Returns:
      A JSON-able dict with `prompt`, `groups`, `relations`, `background` and
      `style`. A group is `{"kind", "color", "texture", "size", "count", "words"}`,
      where `words` maps each of these statements that the prompt makes to its word
      index ("kind" to the noun). A relation is `{"first", "second", "relation",
      "word"}` over group indices.
    """
    if difficulty == "simple":
        number = dice.weighted({1: 0.5, 2: 0.5})
    else:
        number = dice.weighted({1: 0.2, 2: 0.38, 3: 0.27, 4: 0.15})
    kinds = dice.sample(tuple(KINDS), number)
    groups = [_group(dice, kind, number, difficulty) for kind in kinds]
    if split == "test" and dice.chance(0.36):
        group = dice.pick(groups)
        group["color"] = next(c for k, c in HELD_OUT if k == group["kind"])
        group["says"].add("color")
    relations = []
    if number > 1 and dice.chance(0.65):
        name = dice.pick(tuple(RELATIONS))
        relations.append({"first": 0, "second": 1, "relation": name})
        if number == 4 and dice.chance(0.5):
            name = dice.pick((name, OPPOSITE[name]))
            relations.append({"first": 2, "second": 3, "relation": name})
    if difficulty == "simple":
        background = dice.weighted({"plain": 0.7, "meadow": 0.1, "snow": 0.2})
        style = None
    else:
        background = dice.pick(tuple(BACKGROUNDS))
        style = dice.pick(tuple(STYLES)) if dice.chance(0.4) else None
    scene = {
        "groups": groups,
        "relations": relations,
        "background": background,
        "style": style,
    }
    _write(dice, scene, difficulty)
    for group in groups:
        del group["says"]
    return scene


def corpus(number: int, seed: int = 0) -> Iterator[str]:
    """Yields prompts on which to train a vocabulary.

    Every word of the grammar occurs in the first few thousand, so that with about
    1000 SentencePiece pieces nearly every word is one piece.

    Args:
      number: the number of prompts.
      seed: the seed of the prompts, which differ from those of all splits.
    """
    for i in range(number):
        difficulty = DIFFICULTIES[i % 2]
        dice = Dice("scenes", seed, "corpus", difficulty, i)
        yield compose(dice, split="test", difficulty=difficulty)["prompt"]


def _group(dice: Dice, kind: str, number: int, difficulty: str) -> dict[str, Any]:
    """Chooses one group of `number`; `says` lists what the prompt states."""
    if difficulty == "simple":
        counts = {1: 0.6, 2: 0.4} if number == 1 else {1: 1.0}
        texture, size = 0.3, 0.3
    else:
        counts = (
            {1: 0.35, 2: 0.2, 3: 0.2, 4: 0.15, 5: 0.1},
            {1: 0.6, 2: 0.25, 3: 0.15},
            {1: 0.75, 2: 0.25},
            {1: 0.8, 2: 0.2},
        )[number - 1]
        texture, size = 0.4, 0.35
    count = dice.weighted(counts)
    says = {"kind", "count"}
    if dice.chance(0.93):
        says.add("color")
    group = {
        "kind": kind,
        "color": dice.pick(allowed_colors(kind)),
        "texture": "plain",
        "size": "medium",
        "count": count,
        "says": says,
    }
    if dice.chance(texture):
        group["texture"] = dice.pick(TEXTURES)
        says.add("texture")
    # Only a single object has room to be large.
    if count == 1 and dice.chance(size):
        group["size"] = dice.pick(tuple(SIZES))
        says.add("size")
    return group


class _Writer:
    """Builds a prompt piece by piece and counts its words."""

    def __init__(self):
        self.text = ""
        self.words = 0

    def add(self, phrase: str) -> int:
        """Appends words after a space; returns the index of the first.

        At the start and inside an opening quote there is no space.
        """
        self.text += phrase if self.text[-1:] in ("", '"') else " " + phrase
        first = self.words
        self.words += phrase.count(" ") + 1
        return first


def _write(dice: Dice, scene: dict[str, Any], difficulty: str) -> None:
    """Writes the prompt, dropping what exceeds the word limit."""
    extras = {"background", "style", "praise"} if difficulty == "full" else set()
    if difficulty == "simple" and scene["background"] != "plain":
        extras.add("background")
    extras = {extra for extra in sorted(extras) if dice.chance(0.7)}
    opening = dice.weighted({"": 0.45, "open": 0.3, "ask": 0.15, "title": 0.1})
    while True:
        writer = _Writer()
        _write_once(Dice("prompt", dice.seed), writer, scene, extras, opening)
        if writer.words < MIN_WORDS:
            opening = "open"
        elif writer.words <= MAX_WORDS[difficulty]:
            break
        elif opening:
            opening = ""
        elif extras:
            extras.remove(max(extras))
        else:
            # An unstated texture would be surprising, so it is removed as well.
            wordy = max(scene["groups"], key=lambda group: len(group["says"]))
            if "texture" in wordy["says"]:
                wordy["says"].remove("texture")
                wordy["texture"] = "plain"
            else:
                wordy["says"].remove("size")
                wordy["size"] = "medium"
    scene["prompt"] = writer.text


def _write_once(
    dice: Dice, writer: _Writer, scene: dict[str, Any], extras: set[str], opening: str
) -> None:
    """Writes the whole prompt once, filling in the word indices."""
    style = scene["style"] if "style" in extras else None
    style_first = style is not None and dice.chance(0.3)
    if style is not None and style_first:
        writer.add(STYLES[style][0])
        writer.text += ":"
    if opening:
        openings = {"open": _OPENINGS, "ask": _REQUESTS, "title": _TITLES}[opening]
        phrase = dice.pick(openings)
        writer.add(phrase)
    else:
        phrase = ""
    if opening == "title":
        writer.text += ' "'
    _write_groups(dice, writer, scene)
    if opening == "title":
        writer.text += '"'
    glue = dice.pick((" ", ", ", "; ")) if opening != "title" else ", "
    if "background" in extras:
        _append(writer, dice.pick(BACKGROUNDS[scene["background"]]), glue)
    if style and not style_first:
        _append(writer, dice.pick(STYLES[style]), ", ")
    if "praise" in extras:
        _append(writer, dice.pick(_PRAISE), dice.pick((", ", "; ", ". ")))
    if phrase.startswith("can"):
        writer.text += "?"
    else:
        writer.text += dice.weighted({"": 0.6, ".": 0.3, "!": 0.1})


def _append(writer: _Writer, phrase: str, glue: str) -> None:
    """Adds a phrase after a delimiter, also after a closing quote."""
    writer.text += glue.rstrip(" ")
    if writer.text.endswith('"'):
        writer.text += " "
    writer.add(phrase)


def _write_groups(dice: Dice, writer: _Writer, scene: dict[str, Any]) -> None:
    """Writes "two red balls left of a house, and a small fish"."""
    groups = scene["groups"]
    relation_after = {r["first"]: r for r in scene["relations"]}
    for index, group in enumerate(groups):
        if index and index - 1 not in relation_after:
            last = index == len(groups) - 1
            joint = dice.pick((" and", ", and", " with")) if last else ","
            if index == 2 and not last:
                joint = dice.pick((",", ";", " and"))
            if joint.startswith(" "):
                writer.add(joint.strip())
            elif " " in joint:
                writer.text += ","
                writer.add("and")
            else:
                writer.text += joint
        _write_group(dice, writer, group)
        if index in relation_after:
            relation = relation_after[index]
            phrase = dice.pick(RELATIONS[relation["relation"]])
            before = [word.isupper() for word in phrase.split()].index(True)
            relation["word"] = writer.add(phrase.lower()) + before


def _write_group(dice: Dice, writer: _Writer, group: dict[str, Any]) -> None:
    """Writes "two small striped red balls"."""
    says = group["says"]
    adjectives = []
    if "size" in says:
        adjectives.append(("size", dice.pick(SIZES[group["size"]])))
    if "texture" in says:
        adjectives.append(("texture", group["texture"]))
    if "color" in says:
        adjectives.append(("color", group["color"]))
    if len(adjectives) > 1 and adjectives[-2][0] == "texture" and dice.chance(0.3):
        adjectives[-2:] = adjectives[-1], adjectives[-2]
    count = group["count"]
    noun = group["kind"] if count == 1 else KINDS[group["kind"]]
    phrases = [*adjectives, ("kind", noun)]
    article = COUNTS[count - 1]
    if count == 1:
        article = dice.weighted({"a": 0.8, "one": 0.2})
        if article == "a" and phrases[0][1][0] in "aeiou":
            article = "an"
    group["words"] = {"count": writer.add(article)}
    for statement, phrase in phrases:
        group["words"][statement] = writer.add(phrase)
