"""A module outside rahf/ adds a target; nothing in rahf/ knows it (docs/tasks.md)."""

import numpy as np
import pytest

import rahf
from rahf import targets
from rahf.bin import eval_scores
from rahf.checkpoints.metrics_log import read_metrics
from rahf.datasets.scenes import Scenes
from rahf.evaluation.split import SplitEvaluator
from rahf.input import loader as data_input
from rahf.input.registry import import_modules
from rahf.training import loop
from tests.input.loader_test import make_config, take, weights
from tests.support import tiny

MODULES = {
    "grain": ("tests.support.example_task.warmth",),
    "seqio": ("tests.support.example_task.warmth_seqio",),
}


def warm_config(loader):
    config = make_config("scenes_warm_and_plausible", loader=loader, batch_size=16)
    config.task.modules = MODULES[loader]
    config.task.targets = ("plausibility", "warmth")
    return config


@pytest.mark.parametrize("loader", list(MODULES))
def test_training_batches_hold_the_new_target(loader):
    train_input = data_input.make_train_input(warm_config(loader))
    for batch in take(train_input, 2):
        counts = weights(batch)
        assert sum(counts.values()) == 16
        assert counts["warmth"] > 2
        asked = batch["weights"]["warmth"] > 0
        red, blue = (batch["image"][..., c].mean(axis=(1, 2)) / 255 for c in (0, 2))
        np.testing.assert_allclose(
            batch["targets"]["warmth"], asked * (1 + red - blue) / 2, atol=1e-4
        )
    train_input.close()


@pytest.mark.parametrize("loader", list(MODULES))
def test_evaluation_batches_hold_the_new_target(loader):
    batches = data_input.make_eval_batches(
        warm_config(loader), split="test", targets=("warmth",), batch_size=4, examples=6
    )
    assert len(batches) == 2
    found = list(batches)
    assert [b["weights"]["warmth"].sum() for b, _ in found] == [4, 2]
    assert not any(b["weights"]["plausibility"].any() for b, _ in found)
    uids = [info["uid"] for _, infos in found for info in infos]
    assert uids == [Scenes("test", 64)[i]["uid"] for i in range(6)]


def test_the_table_has_the_new_row():
    import_modules(warm_config("grain"))
    row = targets.get("warmth")
    assert row.kind is targets.Kind.SCORE
    assert "warmth" not in targets.FEEDBACK


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    config = tiny.config("augmented")
    config.task.name = "scenes_warm_and_plausible"
    config.task.targets = ("plausibility", "warmth")
    config.task.modules = ("tests.support.example_task.warmth",)
    config.input.image_size = 64
    config.input.batch_size = 32
    config.training_steps = 80
    config.schedule.update(name="cosine", peak=0.03, warmup_steps=5)
    config.checkpoint.every_steps = 80
    config.eval.update(every_steps=80, examples=64, batch_size=32)
    with config.unlocked():
        config.loss_weights = {}
    folder = tmp_path_factory.mktemp("warm")
    # As rahf.bin.train does it.
    train_input = data_input.make_train_input(config)
    evaluator = SplitEvaluator(config)
    evaluate = lambda params: evaluator(params, progress=False).flat()
    loop.train(config, folder, train_input, evaluate)
    train_input.close()
    return folder


def test_it_is_learned_and_measured_in_the_loop(workdir):
    rows = read_metrics(workdir)
    assert rows[-1]["eval/warmth/plcc"] > 0.25
    assert {"train/loss/warmth", "train/loss/plausibility"} <= rows[-1].keys()


def test_the_binary_measures_it(workdir, capsys):
    eval_scores.main(
        [f"--checkpoint={workdir}", "--split=test", "--examples=32", "--batch_size=32"]
    )
    table = capsys.readouterr().out
    assert "warmth" in table and "plausibility" in table


def test_it_is_predicted(workdir):
    predictor = rahf.load(workdir)
    assert predictor.targets == ("plausibility", "warmth")
    scenes = Scenes("test", 64)
    red, blue = np.zeros((2, 64, 64, 3), np.uint8)
    red[..., 0] = blue[..., 2] = 255
    records = [scenes[i] for i in range(4)]
    images = [record["image"] for record in records]
    prompts = [record["prompt"] for record in records]
    predictions = predictor.predict([*images, red, blue], [*prompts, "red", "blue"])
    scores = [prediction.scores["warmth"] for prediction in predictions]
    assert len(set(scores)) == 6 and all(0 <= score <= 1 for score in scores)
    assert predictions[0].words == [] and predictions[0].heatmaps == {}
