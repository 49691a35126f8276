"""A user's score target, registered outside rahf, from training to prediction."""

import json

import numpy as np
import pytest

import rahf
from rahf.bin import eval_scores
from rahf.data.input import make_train_input
from rahf.data.scenes import Scenes
from rahf.evaluation.split import SplitEvaluator
from rahf.training import loop
from tests import tiny


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    config = tiny.config("augmented")
    config.task.name = "scenes_warm_and_plausible"
    config.task.targets = ("plausibility", "warmth")
    config.task.modules = ("tests.example_task.warmth",)
    config.input.image_size = 64
    config.input.batch_size = 32
    config.training_steps = 40
    config.schedule.update(peak=3e-3, warmup_steps=5)
    config.checkpoint.every_steps = 40
    config.eval.update(every_steps=40, examples=32, batch_size=32)
    with config.unlocked():
        config.loss_weights = {}
    folder = tmp_path_factory.mktemp("warm")
    # As rahf.bin.train does it.
    train_input = make_train_input(config)
    evaluator = SplitEvaluator(config)
    evaluate = lambda params: evaluator(params, progress=False).flat()
    loop.train(config, folder, train_input, evaluate)
    return folder


def test_it_is_learned_and_measured_in_the_loop(workdir):
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").open()]
    assert rows[-1]["eval/warmth/plcc"] > 0.5
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
