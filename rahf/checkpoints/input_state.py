"""The position of each process in its data: an item of the Orbax step, a file each.

As part of the step it is committed and removed together with the parameters, so an
interrupted save never leaves parameters that cannot be resumed from.
"""

import base64
import dataclasses
import json
import os
import pathlib
import re
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import future

from rahf import storage
from rahf.input import positions

ITEM = "input_state"
#: Beside checkpoints/, in workdirs from before it became an item of the step.
OLD_FOLDER = "input_state"


class InputStateHandler(ocp.AsyncCheckpointHandler):
    """Writes `process_<index>-of-<count>.json` from every process."""

    async def async_save(self, directory, args: "InputStateSave"):
        index, count = jax.process_index(), jax.process_count()
        name = f"process_{index}-of-{count}.json"
        text = json.dumps(_to_json(args.state))  # now, before the input moves on

        async def write() -> None:
            storage.write_text(storage.place(directory) / name, text)

        return [future.CommitFutureAwaitingContractedSignals(write(), name=name)]

    def save(self, directory, args: "InputStateSave") -> None:
        raise NotImplementedError("saved asynchronously only")

    def restore(self, directory, args=None):
        raise NotImplementedError("read by read_input_state")


@ocp.args.register_with_handler(InputStateHandler, for_save=True, for_restore=True)
@dataclasses.dataclass
class InputStateSave(ocp.args.CheckpointArgs):
    """What `get_state` of the training input returned in this process."""

    state: Any


def count_processes(workdir: str | os.PathLike, step: int) -> int:
    """Returns how many processes wrote a step; 0 if data positions are missing."""
    return max(_files(workdir, step)[1], default=0)


def read_position(workdir: str | os.PathLike, step: int, index: int) -> Any:
    """Returns what `get_state` returned at a step in the process of an index."""
    folder, files = _files(workdir, step)
    path = folder / files[max(files)].format(index=index)
    return _from_json(json.loads(storage.read_bytes(path)))


def read_input_state(workdir: str | os.PathLike, step: int) -> Any:
    """Returns the argument for `set_state` of this process's training input."""
    before, index = count_processes(workdir, step), jax.process_index()
    if before == jax.process_count():
        return read_position(workdir, step, index)
    states = [read_position(workdir, step, each) for each in range(before)]
    return positions.spread(states, index)


def remove_old(workdir: str | os.PathLike, steps: list[int]) -> None:
    """Removes the data positions beside checkpoints/ of deleted steps."""
    folder = storage.place(workdir) / OLD_FOLDER
    if not folder.is_dir():
        return
    for each in folder.iterdir():
        if each.name.isdigit() and int(each.name) not in steps:
            storage.remove(each)
    if not storage.list_files(folder):
        storage.remove(folder)


def _files(workdir, step: int) -> tuple[pathlib.Path, dict[int, str]]:
    """Returns the folder of the data positions, and file name patterns by process
    count."""
    workdir = storage.place(workdir)
    folder = workdir / "checkpoints" / str(step) / ITEM
    if folder.is_dir():
        counts = {
            int(found[1])
            for path in folder.iterdir()
            if (found := re.fullmatch(r"process_\d+-of-(\d+)\.json", path.name))
        }
        return folder, {n: f"process_{{index}}-of-{n}.json" for n in counts}
    folder = workdir / OLD_FOLDER / str(step)
    number = len(list(folder.glob("process_*.json"))) if folder.is_dir() else 0
    return folder, {number: "process_{index}.json"} if number else {}


def _to_json(state: Any) -> dict[str, Any]:
    if isinstance(state, bytes):
        return {"base64": base64.b64encode(state).decode()}
    return {"json": state}


def _from_json(state: dict[str, Any]) -> Any:
    if "base64" in state:
        return base64.b64decode(state["base64"])
    return state["json"]
