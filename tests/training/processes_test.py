"""Two processes train as one, on shards of captions, and what comes of the run."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

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
    config.schedule.name = "constant"  # whenever a run stops
    return config


def slurm(index):
    """The environment of a task, as srun sets it."""
    return {
        "SLURM_JOB_ID": str(os.getpid()),  # the port is made of it
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_NTASKS": "2",
        "SLURM_PROCID": str(index),
        "SLURM_LOCALID": str(index),
    }


def by_hand():
    """The flags of each of two processes that no launcher started."""
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
    shared = [f"--coordinator_address=localhost:{port}", "--num_processes=2"]
    return [[*shared, f"--process_id={index}"] for index in range(2)]


def start_two(config, workdir, flags, steps, environ=lambda index: {}):
    """Starts the binary twice on one host."""
    splits = ("train", "dev")
    command = [
        *(
            sys.executable,
            "-m",
            "rahf.bin.train",
            "--config=tests/support/tiny_captions.py",
        ),
        *(f"--workdir={workdir}", f"--config.training_steps={steps}"),
        *("--config.schedule.name=constant", "--config.eval.every_steps=1"),
        *(f"--config.input.captions.{s}={config.input.captions[s]}" for s in splits),
    ]
    return [
        subprocess.Popen(
            [*command, *flags[index]],
            cwd=ROOT,
            env=os.environ | {"XLA_FLAGS": QUICK} | environ(index),
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
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
    # As on a cluster whose proxy knows nothing of its nodes.
    proxy = {"http_proxy": "http://127.0.0.1:9", "no_proxy": ""}
    processes = start_two(
        config, tmp_path / "two", by_hand(), steps=1000, environ=lambda index: proxy
    )
    log = tmp_path / "two" / "metrics.jsonl"
    while not (log.exists() and log.stat().st_size) and processes[1].poll() is None:
        time.sleep(0.05)
    processes[1].send_signal(signal.SIGINT)  # Ctrl-C in one terminal stops both
    errors = [process.communicate(timeout=300)[1] for process in processes]
    assert [process.returncode for process in processes] == [75, 75], errors
    last = read_metrics(tmp_path / "two")[-1]["step"]
    for error in errors:
        assert "stopped by SIGINT in process 1 of 2" in error
        assert f"at step {last} of 1000, saved in {tmp_path}/two" in error
    for config.training_steps in (1, last):  # stop, and go on
        loop.train(config, tmp_path / "one", Joined(config))
    two, one = (read_metrics(tmp_path / name) for name in ("two", "one"))
    assert two[-1]["train/bad_records"] > 1
    for row, expected in zip(two, one, strict=True):
        for name in ("train/loss", "train/gradient_norm", "train/bad_records"):
            assert row[name] == pytest.approx(expected[name], rel=1e-4), name

    # Neither goes on with what the other has seen of the data.
    config.training_steps = last + 1
    message = f"trained by 2 processes until step {last}, .* now"
    with pytest.raises(ValueError, match=message):
        loop.train(config, tmp_path / "two", Joined(config))
    told = [["--distributed"]] * 2
    for process in start_two(
        config, tmp_path / "one", told, steps=last + 1, environ=slurm
    ):
        line = process.communicate(timeout=300)[1].strip().splitlines()[-1]
        assert process.returncode == 1 and line.startswith("error: "), line
        assert f"trained by 1 processes until step {last}" in line

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
