"""The target of one's own in docs/preferences.md learns from choices as printed."""

import pathlib
import re

import numpy as np
import pytest

from rahf import targets
from rahf.datasets.scenes.pairs import scene_pairs
from rahf.input import loader as data_input
from rahf.input import registry
from tests.support import tiny

_TEXT = (pathlib.Path(__file__).parents[1] / "docs" / "preferences.md").read_text()
[BLOCK] = re.findall(r"```python\n(.+?)```", _TEXT, re.DOTALL)


class _Warmer:
    """Pairs of scenes, of which the redder one is preferred."""

    def __init__(self, split, options):
        self._pairs = scene_pairs(split, options)

    def __len__(self):
        return 4

    def __getitem__(self, index):
        pair = self._pairs[index]
        warmth = [
            float(np.subtract(*each["image"].mean(axis=(0, 1))[[0, 2]]))
            for each in (pair, pair["other"])
        ]
        return pair | {"warmth_preference": float(warmth[0] > warmth[1])}


@pytest.fixture
def warmth(monkeypatch):
    monkeypatch.setattr(targets, "_TABLE", dict(targets._TABLE))
    monkeypatch.setattr(registry, "TASKS", dict(registry.TASKS))
    targets.register(
        targets.Target(
            name="warmth",
            kind=targets.Kind.SCORE,
            field="warmth_score",
            prompt="<output> SCORE: warmth </output> ",
            description="1 = red, 0 = blue",
        )
    )
    exec(BLOCK, {"targets": targets})  # noqa: S102


@pytest.mark.usefixtures("warmth")
def test_a_score_of_ones_own_learns_from_choices():
    registry.register(
        registry.Task("warmer", ("warmth_preference",), _Warmer, augment=None)
    )
    config = tiny.config()
    config.task.name = "warmer"
    config.task.targets = ("warmth", "warmth_preference")
    config.input.update(image_size=64, batch_size=4)
    batch = next(data_input.make_train_input(config))
    image = batch["image"].mean(axis=(1, 2))
    redder = image[:, 0] - image[:, 2]
    expected = redder.reshape(2, 2)[:, 0] > redder.reshape(2, 2)[:, 1]
    found = batch["targets"]["warmth_preference"][::2, 0]
    np.testing.assert_array_equal(found, expected)
    tiny.params(config)  # the model has a head for the score, and the choice needs none


def test_every_task_of_pairs_is_listed():
    for name in (*registry.TASKS, *registry.MIXTURES):
        if name.startswith(("pick_a_pic_pairs", "pairs_of_scenes")):
            assert f"`{name}`" in _TEXT
