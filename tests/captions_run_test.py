"""Captions from shards to a checkpoint: train, go on, evaluate, and start from it."""

import json

import numpy as np

from rahf.bin import eval_captions
from rahf.data.input import make_train_input
from rahf.evaluation.split import SplitEvaluator
from rahf.training import checkpoint, loop
from rahf.training.logs import read_metrics
from rahf.weights import matching
from tests import tiny, tiny_captions
from tests.captions_fixture import write_shard


def train(config, workdir):
    evaluator = SplitEvaluator(config)
    source = make_train_input(config)
    loop.train(config, workdir, source, lambda params: evaluator(params).flat())
    source.close()


def test_train_go_on_evaluate_and_start_from_it(tmp_path, capsys):
    config = tiny_captions.get_config()
    config.input.captions.update(train=f"{tmp_path}/train", dev=f"{tmp_path}/dev")
    config.eval.examples = 0
    for shard in range(3):
        write_shard(tmp_path / "train" / f"{shard}.tar", 10 * shard, 10)
    write_shard(tmp_path / "dev" / "0.tar", 100, 6)

    train(config, tmp_path / "whole")
    for config.training_steps in (2, 4):
        train(config, tmp_path / "parts")
    whole, parts = (read_metrics(tmp_path / name) for name in ("whole", "parts"))
    assert [row["step"] for row in parts] == [1, 2, 3, 4]
    losses = [[row["train/loss"] for row in rows] for rows in (whole, parts)]
    assert losses[0] == losses[1] and len(set(losses[0])) == 4

    eval_captions.main([f"--checkpoint={tmp_path}/parts", "--split=dev"])
    assert "perplexity" in capsys.readouterr().out
    found = json.loads((tmp_path / "parts/eval/dev/captions.json").read_text())
    nll = found["metrics"]["caption"]["nll"]
    np.testing.assert_allclose(nll, whole[-1]["eval/caption/nll"], rtol=1e-6)

    fine = tiny.config()
    fine.training_steps, fine.schedule.peak = 1, 0.0
    fine.init_from = str(tmp_path / "parts")
    loop.train(fine, tmp_path / "fine", tiny.NoiseInput(fine))
    before, after = (
        matching.flatten(checkpoint.read_params(tmp_path / name))
        for name in ("parts", "fine")
    )
    assert set(before) < set(after)
    assert all("_predictor_" in name for name in set(after) - set(before))
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value, err_msg=name)
