"""Computes the true labels of a scene from its description, without rater noise.

The truth depends on what can be seen: plausibility on the kind, strength and extent of
damage, alignment on which statements of the prompt are false. The simulated raters
perceive it with noise, so the score of `oracle` on consolidated labels is an upper
bound for any model.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from rahf import words
from rahf.datasets.ratings.consolidation import POINT_RADIUS
from rahf.datasets.scenes.flaws import SPACING

# The cost of a false statement in alignment.
_IMPORTANCE = {
    "missing": 1.0,
    "object": 0.85,
    "color": 0.65,
    "relation": 0.6,
    "count": 0.5,
    "texture": 0.45,
    "size": 0.4,
}
_DISTURBANCE = {
    "broken": 1.0,
    "melted": 0.9,
    "duplicated": 0.9,
    "fragment": 0.8,
    "smeared": 0.9,
    "glitched": 1.0,
}
_UGLINESS = {
    "blur": 0.4,
    "noise": 0.4,
    "washed": 0.35,
    "clashing": 0.4,
    "cropped": 0.3,
}

#: Standard deviation of a click around the intended spot, along each axis.
CLICK_NOISE = 0.012
#: Probability that a rater who noticed a flaw clicks on a given spot of it.
CLICK_RATE = 0.93


def notice_rate(flaw: Mapping[str, Any]) -> float:
    """Returns the probability that a rater notices a flaw; grows with its strength."""
    return 0.84 + 0.14 * flaw.get("strength", 0.8)


def plausibility(scene: Mapping[str, Any]) -> float:
    """Returns how free of damage the picture looks, in [0, 1].

    The cost of a flaw depends on its strength and the share of the image that it
    covers; costs add up in the exponent.
    """
    cost = 0.0
    for flaw in scene["implausibility"]:
        area = len(flaw["spots"]) * SPACING**2
        extent = 0.35 + 0.65 * min(area / 0.1, 1.0)
        cost += _DISTURBANCE[flaw["flaw"]] * flaw["strength"] * extent
    return round(math.exp(-1.6 * cost), 6)


def alignment(scene: Mapping[str, Any]) -> float:
    """Returns how much of the prompt is shown, in [0, 1].

    A false statement about one of several groups costs less than one about the only
    group.
    """
    share = 2.0 / (1.0 + len(scene["groups"]))
    cost = sum(_IMPORTANCE[flaw["flaw"]] for flaw in scene["misalignment"])
    return round(math.exp(-1.7 * share * cost), 6)


def aesthetics(scene: Mapping[str, Any]) -> float:
    """Returns how pleasing the picture is, in [0, 1]; damage lowers it a little."""
    cost = sum(_UGLINESS[f["flaw"]] * f["strength"] for f in scene["aesthetics"])
    damage = 0.25 * (1.0 - plausibility(scene))
    styled = 0.05 if scene["style"] else 0.0
    return round(min(max(0.9 + styled - cost * 1.3 - damage, 0.0), 1.0), 6)


def overall(scene: Mapping[str, Any]) -> float:
    """Returns the overall impression, a weighted mean of the other three, in [0, 1]."""
    mixture = (
        0.4 * plausibility(scene) + 0.35 * alignment(scene) + 0.25 * aesthetics(scene)
    )
    return round(mixture, 6)


def misaligned_words(scene: Mapping[str, Any]) -> list[int]:
    """Returns the indices of the prompt's words that are not shown, ascending."""
    return sorted({at for flaw in scene["misalignment"] for at in flaw["words"]})


def word_label(scene: Mapping[str, Any]) -> np.ndarray:
    """Returns int8[num_words], 0 = misaligned, 1 = aligned, as in RichHF-18K."""
    label = np.ones(len(words.split(scene["prompt"])), np.int8)
    label[misaligned_words(scene)] = 0
    return label


def heatmap(flaws: list[dict[str, Any]], size: tuple[int, int]) -> np.ndarray:
    """Returns the expected map of a rater.

    Args:
      flaws: a scene's "implausibility" or "misalignment".
      size: height and width in pixels.

    Returns:
      float32[H, W] in [0, 1], the probability that a rater's map covers each pixel.
    """
    height, width = size
    y = (np.arange(height) + 0.5) / height
    x = (np.arange(width) + 0.5) / width
    aspect = width / height
    clear = np.ones(size)
    for flaw in flaws:
        missed = np.ones(size)
        for spot_x, spot_y in flaw["spots"]:
            # In units of the image height, as the radius is.
            distance = np.sqrt(
                ((x - spot_x) * aspect)[None, :] ** 2 + (y - spot_y)[:, None] ** 2
            )
            # The probability that a jittered disk covers a pixel falls from 1 to 0
            # around the disk's rim, about linearly over 4 deviations.
            rim = (POINT_RADIUS - distance) / (4 * CLICK_NOISE) + 0.5
            missed *= 1.0 - CLICK_RATE * np.clip(rim, 0.0, 1.0)
        clear *= 1.0 - notice_rate(flaw) * (1.0 - missed)
    return (1.0 - clear).astype(np.float32)


def oracle(record: Mapping[str, Any]) -> dict[str, Any]:
    """Predicts every target of a record from its scene alone.

    Args:
      record: a record of `Scenes`; only "scene" and the image's size are read.

    Returns:
      Target name -> prediction: `implausibility` and `misalignment`, float32[H, W] in
      [0, 1], the expected map of a rater; `plausibility`, `alignment`, `aesthetics`
      and `overall`, float in [0, 1]; `misaligned_words`, int8[num_words], 0 =
      misaligned.
    """
    scene = record["scene"]
    size = record["image"].shape[:2]
    return {
        "implausibility": heatmap(scene["implausibility"], size),
        "misalignment": heatmap(scene["misalignment"], size),
        "plausibility": plausibility(scene),
        "alignment": alignment(scene),
        "aesthetics": aesthetics(scene),
        "overall": overall(scene),
        "misaligned_words": word_label(scene),
    }
