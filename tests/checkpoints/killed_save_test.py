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

#: Saves steps 1, 2, ... of arrays and is killed while it saves step 3; once for each
#: place, in a folder of this name, by a process of its own.
_PROGRAM = """
import os, signal, sys
import jax
import numpy as np
from rahf.checkpoints import checkpointer
from tests.support import tiny

def die(*args):
    os.kill(os.getpid(), signal.SIGKILL)

def save(place):
    config = tiny.config()
    config.checkpoint.keep_latest = 1
    saver = checkpointer.Checkpointer(place, config)
    for step in (1, 2, 3):
        if step == 3:
            saver._manager.wait_until_finished()
            if place.endswith("before the commit"):
                checkpointer.write_checksums = die
            if place.endswith("before the removal"):
                saver._manager._checkpoint_deleter.delete_steps = die
        state = {"step": jax.device_put(np.full(1 << 18, step, np.int32))}
        saver.save(step, state, {"position": step}, {})
        if step == 3 and place.endswith("at once"):
            die()
    saver.close()

for place in sys.argv[1:]:
    if not (child := os.fork()):
        save(place)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
#: Where the process is killed -> the steps that are complete then.
_LEFT = {"at once": [2], "before the commit": [2], "before the removal": [2, 3]}


@pytest.fixture(scope="module", name="killed")
def _killed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("killed")
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, *(str(folder / place) for place in _LEFT)],
        env=os.environ | ONE_DEVICE,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert [int(code) for code in done.stdout.split()] == [-signal.SIGKILL] * 3
    return folder


@pytest.mark.parametrize("place", list(_LEFT))
def test_the_newest_complete_step_can_be_resumed(killed, place):
    folder, steps = killed / place, _LEFT[place]
    assert restore.complete_steps(folder) == steps
    assert find_whole_step(folder) == steps[-1]
    config = tiny.config()
    shape = jax.ShapeDtypeStruct(
        (1 << 18,),
        np.int32,
        sharding=jax.sharding.SingleDeviceSharding(jax.devices()[0]),
    )
    saver = Checkpointer(folder, config)
    state, position = saver.restore({"step": shape})
    assert position == {"position": steps[-1]}
    assert (np.asarray(state["step"]) == steps[-1]).all()
    saver.save(4, state, {"position": 4}, {})
    saver.close()
    left = {path.name for path in (folder / "checkpoints").iterdir()}
    assert left == {str(steps[-1]), "4"}  # nothing half-written stays behind
