"""A process that is killed while it saves leaves a step that a run goes on from."""

import os
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest

from rahf.checkpoints import restore
from rahf.checkpoints.checkpointer import Checkpointer, find_whole_step
from tests.support import tiny
from tests.support.quick_xla import ONE_DEVICE

#: Saves steps 1, 2, ... of arrays and is killed while it saves step 3.
_PROGRAM = """
import os, signal, sys
import jax
import numpy as np
from rahf.checkpoints import checkpointer
from tests.support import tiny

def die(*args):
    os.kill(os.getpid(), signal.SIGKILL)

config = tiny.config()
config.checkpoint.keep_latest = 1
saver = checkpointer.Checkpointer(sys.argv[1], config)
for step in (1, 2, 3):
    if step == 3:
        place = sys.argv[2]
        saver._manager.wait_until_finished()
        if place == "before the commit":
            checkpointer.write_checksums = die
        if place == "before the removal":
            saver._manager._checkpoint_deleter.delete_steps = die
    state = {"step": jax.device_put(np.full(1 << 18, step, np.int32))}
    saver.save(step, state, {"position": step}, {})
    if step == 3 and place == "at once":
        die()
saver.close()
"""


@pytest.mark.parametrize(
    ("place", "steps"),
    [
        ("at once", [2]),
        ("before the commit", [2]),
        ("before the removal", [2, 3]),
    ],
)
def test_the_newest_complete_step_can_be_resumed(tmp_path, place, steps):
    killed = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(tmp_path), place],
        env=os.environ | ONE_DEVICE,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    assert restore.complete_steps(tmp_path) == steps
    assert find_whole_step(tmp_path) == steps[-1]
    config = tiny.config()
    shape = jax.ShapeDtypeStruct(
        (1 << 18,),
        np.int32,
        sharding=jax.sharding.SingleDeviceSharding(jax.devices()[0]),
    )
    saver = Checkpointer(tmp_path, config)
    state, position = saver.restore({"step": shape})
    assert position == {"position": steps[-1]}
    assert (np.asarray(state["step"]) == steps[-1]).all()
    saver.save(4, state, {"position": 4}, {})
    saver.close()
    left = {path.name for path in (tmp_path / "checkpoints").iterdir()}
    assert left == {str(steps[-1]), "4"}  # nothing half-written stays behind
