"""Workdirs that earlier versions wrote are loaded, resumed and evaluated."""

import contextlib
import dataclasses
import pathlib
import shutil

import jax
import numpy as np
import pytest

import rahf
from configs import scenes
from rahf.checkpoints import changes, restore
from rahf.checkpoints.metrics_log import read_metrics
from rahf.checkpoints.workdir import read_config
from rahf.evaluation.split import SplitEvaluator
from rahf.input.loader import make_train_input
from rahf.models import sharding, vit
from rahf.training import loop
from tests.support import quick_steps

FOLDER = pathlib.Path(__file__).parents[1] / "fixtures" / "workdirs"
COMMITS = ("fea4aee", "1d92c52", "227259f")


@pytest.mark.parametrize("commit", COMMITS)
def test_an_old_workdir_predicts_goes_on_and_is_measured(commit, tmp_path, monkeypatch):
    folder = shutil.copytree(FOLDER / commit, tmp_path / commit)
    image = np.zeros((64, 64, 3), np.uint8)
    [prediction] = rahf.load(folder).predict([image], ["a red circle"])
    assert 0 < prediction.scores["plausibility"] < 1
    config = read_config(folder)  # as the user's file of back then has it
    config.training_steps = 4
    quick_steps.use(monkeypatch, "traced")
    make_mesh = sharding.make_mesh  # two examples a batch do not divide by 8 devices
    monkeypatch.setattr(
        sharding, "make_mesh", lambda config: make_mesh(config, jax.devices()[:1])
    )
    evaluator = SplitEvaluator(config)
    evaluator.check()
    with contextlib.closing(make_train_input(config)) as source:
        loop.train(
            config, folder, source, lambda p: evaluator(p, progress=False).flat()
        )
    assert restore.complete_steps(folder) == [2, 4]
    rows = read_metrics(folder)
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    assert "eval/plausibility/plcc" in rows[1].keys() & rows[3].keys()
    assert restore.restore_for_inference(folder, "best")[2] in (2, 4)
    [segment] = read_config(folder).segments[1:]
    assert segment["from_step"] == 2
    assert segment["changed"]["training_steps"] == [2, 4]


@pytest.mark.parametrize("commit", COMMITS)
def test_keys_of_today_have_their_defaults(commit):
    """A config file that is brought up to date is that of the same run."""
    old = read_config(FOLDER / commit)
    config = scenes.get_config()
    for section in ("task", "model", "input", "optimizer"):
        for key, value in old[section].items():
            if isinstance(value, type(old)):
                config[section][key].update(value)
            else:
                config[section][key] = (
                    tuple(value) if isinstance(value, list) else value
                )
    config.task.weights = {}
    if "stem" not in old.model.vit:
        config.model.vit.stem = "patch"
    config.model.word_presence = False
    assert not [
        key
        for key in changes.compare(FOLDER / commit, config)
        if key.startswith(("model.", "input.", "task.", "optimizer."))
    ]
    config.model.word_presence = True
    with pytest.raises(
        ValueError, match="config.model.word_presence: was .*, now True"
    ):
        changes.compare(FOLDER / commit, config)


def test_the_defaults_are_those_of_the_models():
    """What an old config does not say is what the model does where nothing is said."""
    defaults = {
        field.name: field.default
        for field in dataclasses.fields(vit.ViTConfig)
        if f"model.vit.{field.name}" in changes.DEFAULTS
    }
    assert {"class_token", "stem", "exact_gelu", "norm_epsilon"} <= defaults.keys()
    for name, value in defaults.items():
        assert changes.DEFAULTS[f"model.vit.{name}"] == value, name
