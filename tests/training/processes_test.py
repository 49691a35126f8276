"""Two processes train as one, on shards of captions, and what comes of the run."""

import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

from rahf.bin import eval_captions
from rahf.checkpoints import restore
from rahf.checkpoints.metrics_log import read_metrics
from rahf.input.loader import make_train_input
from rahf.models import sharding
from rahf.training import loop, steps
from rahf.weights import matching
from tests.support import tiny, tiny_captions
from tests.support.captions_fixture import write_shard
from tests.support.quick_xla import QUICK

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """Four shards, of whose samples every fifth is empty."""
    folder = tmp_path_factory.mktemp("shards")

    def change(number, parts):
        return parts | ({"jpg": b""} if number % 5 == 2 else {})

    for shard in range(4):
        write_shard(folder / "train" / f"{shard}.tar", 10 * shard, 10, change)
    write_shard(folder / "dev" / "0.tar", 100, 6)
    config = tiny_captions.get_config()
    config.input.captions.update(train=f"{folder}/train", dev=f"{folder}/dev")
    return config


def start_two(config, workdir, steps=2):
    """Starts the binary twice, as Slurm would on one host."""
    splits = ("train", "dev")
    command = [
        *(
            sys.executable,
            "-m",
            "rahf.bin.train",
            "--config=tests/support/tiny_captions.py",
        ),
        *(f"--workdir={workdir}", "--distributed", f"--config.training_steps={steps}"),
        *(f"--config.input.captions.{s}={config.input.captions[s]}" for s in splits),
    ]
    slurm = {
        "SLURM_JOB_ID": str(os.getpid()),  # JAX makes the port of it
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_STEP_NUM_NODES": "1",
        "SLURM_NTASKS": "2",
        "XLA_FLAGS": QUICK,
    }
    return [
        subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | slurm | {"SLURM_PROCID": i, "SLURM_LOCALID": i},
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in "01"
    ]


class Joined:
    """The inputs of two processes as that of one."""

    def __init__(self, config):
        self.inputs = [
            make_train_input(config, shard_index=i, shard_count=2) for i in range(2)
        ]

    def __next__(self):
        return jax.tree.map(lambda *x: np.concatenate(x), *map(next, self.inputs))

    def metrics(self):
        counts = [each.metrics()["bad_records"] for each in self.inputs]
        return {"bad_records": sum(counts)}

    def get_state(self):
        return {"inputs": [each.get_state() for each in self.inputs]}

    def set_state(self, state):
        for each, own in zip(self.inputs, state["inputs"], strict=True):
            each.set_state(own)


def test_two_processes_are_one(config, tmp_path, capsys):
    processes = start_two(config, tmp_path / "two")
    for config.training_steps in (1, 2):  # stop, and go on
        loop.train(config, tmp_path / "one", Joined(config))
    errors = [process.communicate(timeout=300)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    two, one = (read_metrics(tmp_path / name) for name in ("two", "one"))
    assert two[-1]["train/bad_records"] > 1
    for row, expected in zip(two, one, strict=True):
        for name in ("train/loss", "train/gradient_norm", "train/bad_records"):
            assert row[name] == pytest.approx(expected[name], rel=1e-4), name

    # Neither goes on with what the other has seen of the data.
    config.training_steps = 3
    with pytest.raises(ValueError, match="trained by 2 processes until step 2, .* now"):
        loop.train(config, tmp_path / "two", Joined(config))
    for process in start_two(config, tmp_path / "one", steps=3):
        last = process.communicate(timeout=300)[1].strip().splitlines()[-1]
        assert process.returncode == 1 and last.startswith("error: "), last
        assert "trained by 1 processes until step 2" in last

    # What two processes wrote, one evaluates and starts from.
    eval_captions.main([f"--checkpoint={tmp_path}/two", "--split=dev"])
    assert "perplexity" in capsys.readouterr().out
    found = json.loads((tmp_path / "two/eval/dev/captions.json").read_text())
    nll = found["metrics"]["caption"]["nll"]
    assert nll == pytest.approx(two[-1]["eval/caption/nll"], rel=1e-4)
    fine = tiny.config()
    mesh = sharding.make_mesh(fine)
    with sharding.use(mesh, fine):
        fresh, _ = steps.make_state(fine, mesh, abstract=True)
    loaded, _ = matching.match(
        matching.flatten(fresh.params),
        restore.read_params(tmp_path / "two"),
        source="two",
        expect_missing=fine.init_expect_missing,
    )
    assert {"vit", "t5", "visual_token_projection"} == {n.split("/")[0] for n in loaded}
