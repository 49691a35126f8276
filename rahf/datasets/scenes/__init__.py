"""Procedurally drawn pictures with known flaws, simulated raters and an oracle."""

from rahf.datasets.scenes.dataset import (
    SPLITS,
    Scenes,
    faithful_records,
    scenes_records,
)
from rahf.datasets.scenes.raters import rater_against_others
from rahf.datasets.scenes.truth import oracle

__all__ = [
    "SPLITS",
    "Scenes",
    "faithful_records",
    "oracle",
    "rater_against_others",
    "scenes_records",
]
