"""Two processes train as one: rahf.bin.train --distributed on shards of captions."""

import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

from rahf.data.input import make_train_input
from rahf.evaluation.split import SplitEvaluator
from rahf.training import loop
from rahf.training.logs import read_metrics
from tests import tiny_captions
from tests.captions_fixture import write_shard

ROOT = pathlib.Path(__file__).parents[1]
STEPS = 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four shards, of whose samples every fifth is empty."""
    folder = tmp_path_factory.mktemp("shards")

    def change(number, parts):
        return parts | ({"jpg": b""} if number % 5 == 2 else {})

    for shard in range(4):
        write_shard(folder / "train" / f"{shard}.tar", 10 * shard, 10, change)
    write_shard(folder / "dev" / "0.tar", 100, 6)
    return folder


def run_two(workdir, folder):
    """Runs the binary as Slurm would start it on one host, twice."""
    flags = [f"--config.input.captions.{s}={folder}/{s}" for s in ("train", "dev")]
    flags += [
        f"--config.training_steps={STEPS}",
    ]
    slurm = {
        "SLURM_JOB_ID": str(os.getpid()),  # JAX makes the port of it
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_NTASKS": "2",
        "SLURM_STEP_NUM_NODES": "1",
    }
    command = [
        sys.executable,
        "-m",
        "rahf.bin.train",
        "--config=tests/tiny_captions.py",
    ]
    command += ["--distributed", f"--workdir={workdir}", *flags]
    processes = [
        subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ
            | {"XLA_FLAGS": "", "SLURM_PROCID": str(i), "SLURM_LOCALID": str(i)}
            | slurm,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(2)
    ]
    errors = [process.communicate(timeout=300)[1] for process in processes]
    for process, error in zip(processes, errors, strict=True):
        assert process.returncode == 0, error


class Joined:
    """The inputs of two processes as that of one."""

    def __init__(self, config):
        self.inputs = [
            make_train_input(config, shard_index=i, shard_count=2) for i in range(2)
        ]

    def __next__(self):
        return jax.tree.map(lambda *x: np.concatenate(x), *map(next, self.inputs))

    def metrics(self):
        return {"bad_records": sum(i.metrics()["bad_records"] for i in self.inputs)}

    def get_state(self):
        return {}


def test_two_processes_are_one(folder, tmp_path):
    run_two(tmp_path / "two", folder)
    config = tiny_captions.get_config()
    config.input.captions.update(train=f"{folder}/train", dev=f"{folder}/dev")
    config.training_steps = STEPS
    evaluator = SplitEvaluator(config)
    joined = Joined(config)
    loop.train(
        config, tmp_path / "one", joined, lambda params: evaluator(params).flat()
    )
    two, one = (read_metrics(tmp_path / name) for name in ("two", "one"))
    assert [row["step"] for row in two] == [1, 2]
    assert two[-1]["train/bad_records"] > 1
    for row, expected in zip(two, one, strict=True):
        assert row["train/bad_records"] == expected["train/bad_records"]
        for name in ("train/loss", "train/gradient_norm"):
            assert row[name] == pytest.approx(expected[name], rel=1e-4), name
    names = {name for name in one[-1] if name.startswith("eval/")}
    assert names and names <= set(two[-1])
    for name in names:
        assert two[-1][name] == pytest.approx(one[-1][name], rel=1e-4), name
