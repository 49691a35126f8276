"""Scenes: procedural pictures with known flaws, simulated raters and an oracle."""

from rahf.data.scenes.dataset import SPLITS, Scenes
from rahf.data.scenes.raters import rater_against_others
from rahf.data.scenes.truth import oracle

__all__ = ["SPLITS", "Scenes", "oracle", "rater_against_others"]
