"""What a step takes of each device, compiled for the eight of the tests."""

import json
import os
import pathlib
import subprocess
import sys

import jax
import pytest

from rahf.benchmarks import step_costs
from tests.bin.train_test import SMALL
from tests.support import tiny
from tests.support.quick_xla import QUICK


def _costs(**mesh):
    config = tiny.config()
    config.task.targets = ("overall",)  # the heads of others are much the same
    config.sharding.mesh.update(mesh)
    return step_costs.compile_step(config, jax.devices())


def test_a_layout_that_cuts_parameters_holds_less_of_them():
    whole, cut = _costs(data=8), _costs(data=1, fsdp=8)
    assert whole.mesh == {"data": 8, "fsdp": 1, "model": 1}
    assert whole.parameters == cut.parameters
    # Parameters and Adam's two moments, and its counters.
    assert whole.state_bytes == pytest.approx(3 * 4 * whole.parameters, rel=1e-3)
    # Much of so small a model are convolutions and the like, which stay whole.
    assert cut.state_bytes < 0.7 * whole.state_bytes
    assert whole.batch_bytes == cut.batch_bytes
    # Gradients are summed in both; parameters have to be gathered where they are cut.
    assert set(whole.collectives) == {"all-reduce"}
    assert {"all-reduce", "all-gather"} <= set(cut.collectives)
    assert min(whole.temporary_bytes, whole.flops) > 0


def test_the_binary():
    done = subprocess.run(
        [sys.executable, "-m", "rahf.bin.compile_step"]
        + ["--config=configs/scenes_demo.py", "--config.sharding.mesh.model=2", *SMALL],
        cwd=pathlib.Path(__file__).parents[2],
        env=os.environ
        | {"XLA_FLAGS": f"{QUICK} --xla_force_host_platform_device_count=2"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    printed, _, last = done.stdout.strip().rpartition("\n")
    assert json.loads(printed)["mesh"] == {"data": 1, "fsdp": 1, "model": 2}
    assert last.startswith("this machine: 2 devices, 0.0")


def test_no_such_slice():
    with pytest.raises(
        ValueError, match=r"--topology=v5e:3x7: .*expected a slice such"
    ):
        step_costs.tpu_devices("v5e:3x7")
