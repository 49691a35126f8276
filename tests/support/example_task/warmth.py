"""A user's own target: how warm the colours of an image are (docs/tasks.md)."""

from collections.abc import Mapping, Sequence
from typing import Any

from rahf import targets
from rahf.datasets.scenes import scenes_records
from rahf.input.registry import Task, register, register_mixture

targets.register(
    targets.Target(
        name="warmth",
        kind=targets.Kind.SCORE,
        field="warmth_score",
        prompt="<output> SCORE: warmth </output> ",
        description="1 = red, 0 = blue",
        threshold=0.5,
    )
)


class Warm(Sequence[dict[str, Any]]):
    """Scenes, each with one more label."""

    def __init__(self, split: str, options: Mapping[str, Any]):
        self._scenes = scenes_records(split, options)

    def __len__(self) -> int:
        return len(self._scenes)

    def __getitem__(self, index: int) -> dict[str, Any]:
        record = self._scenes[index]
        red, _, blue = record["image"].mean(axis=(0, 1)) / 255
        return record | {"warmth_score": (1 + red - blue) / 2}


register(Task("scenes_warmth", ("warmth",), Warm))
register_mixture("scenes_warm_and_plausible", ("scenes_warmth", "scenes_plausibility"))
