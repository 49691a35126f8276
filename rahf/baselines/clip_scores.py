"""Scores of an image and its prompt by a CLIP's cosine, as published.

CLIPScore: Hessel et al., "CLIPScore: A Reference-free Evaluation Metric for Image
Captioning" (2021). PickScore: Kirstain et al., "Pick-a-Pic" (2023), on its own weights
(CLIP-H). HPSv2: Wu et al., "Human Preference Score v2" (2023), likewise; it is blind to
local artifacts, and does not compare across prompts.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class ClipFormula:
    """How a score is made of a cosine.

    Attributes:
      name: the score's name in predictions.
      compute: (cosine float32[B], exp(logit_scale) float32[]) -> float32[B], higher is
        better.
      activation: that of the weights it is meant for, where they do not tell; "" = none.
    """

    name: str
    compute: Callable[[Any, Any], Any]
    activation: str = ""


#: Formulas by name. CLIPScore's factor makes typical values fill [0, 1]; PickScore lies
#: around 20, HPSv2 around .25.
FORMULAS = {
    formula.name: formula
    for formula in (
        ClipFormula("clipscore", lambda cosine, scale: 2.5 * jnp.maximum(cosine, 0)),
        ClipFormula("pickscore", lambda cosine, scale: scale * cosine, "gelu"),
        ClipFormula("hpsv2", lambda cosine, scale: cosine, "gelu"),
    )
}


def find_formula(name: str) -> ClipFormula:
    """Returns the formula of a name; raises ValueError if there is none."""
    if name not in FORMULAS:
        raise ValueError(f"score={name!r}: expected one of {', '.join(FORMULAS)}")
    return FORMULAS[name]
