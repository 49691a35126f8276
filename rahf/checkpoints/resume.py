"""Where a run starts: at step 0, or at the workdir's newest undamaged step."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax

from rahf.checkpoints import changes, input_state, restore, same_settings
from rahf.checkpoints import workdir as workdirs
from rahf.checkpoints.checkpointer import find_whole_step
from rahf.checkpoints.processes import first_decides
from rahf.input import positions


@dataclasses.dataclass(frozen=True)
class Start:
    """How a run begins.

    Attributes:
      step: step of the checkpoint it resumes from; None for a new run.
      segments: segments for config.json, see `rahf.checkpoints.changes`.
    """

    step: int | None
    segments: list[dict[str, Any]]


def find_start(workdir, config, digest: Callable[[], str | None]) -> Start:
    """Finds out where a run starts, and whether it may; the same in all processes.

    Args:
      workdir: the workdir, locked by this run.
      config: the config to train with.
      digest: returns the digest of the training data; called only if steps are left.

    Raises:
      ValueError: the workdir's run has another model, seed, vocabulary or data, a
        position in the data that this number of processes or batch size cannot go on
        from, or no undamaged checkpoint, or the processes have different data. Nothing
        has been written then.
    """
    start = Start(**first_decides(lambda: _find(workdir, config, digest)))
    if jax.process_count() > 1 and (start.step or 0) < config.training_steps:
        is_first = jax.process_index() == 0
        same_settings.check_data(
            start.segments[-1].get("data") if is_first else digest()
        )
    return start


def _find(workdir, config, digest: Callable[[], str | None]) -> dict[str, Any]:
    has_config = (workdirs.folder(workdir) / workdirs.CONFIG_FILE).exists()
    if not restore.complete_steps(workdir):
        if has_config:  # a run that was stopped before its first checkpoint
            changes.check_no_import(workdir, workdirs.read_config(workdir))
        return {"step": None, "segments": changes.extend((), 0, {}, digest())}
    changed = changes.compare(workdir, config)
    workdirs.check_same_vocabulary(workdir, config)
    step = find_whole_step(workdir)
    assert step is not None  # there are steps
    segments = list(workdirs.read_config(workdir).get(workdirs.SEGMENTS, ()))
    if step < config.training_steps:
        segments = changes.extend(segments, step, changed, digest())
        _check_positions(workdir, step, segments[-1])
    return {"step": step, "segments": segments}


def _check_positions(workdir, step: int, segment: dict[str, Any]) -> None:
    """Refuses to go on where examples would be repeated or left out."""
    before, now = input_state.count_processes(workdir, step), jax.process_count()
    if not before:
        raise ValueError(
            f"step {step} of {workdir} has no input_state, so the run's position in the "
            f"data is unknown; copy it again, or start another workdir with "
            f"--config.init_from={workdir}"
        )
    position = input_state.read_position(workdir, step, 0)
    if before != now and not positions.is_global(position):
        raise ValueError(
            f"{workdir} was trained by {before} processes until step {step}, each with "
            f"its own position in the data, but there are {now} now; start {before}, "
            f"or another workdir with --config.init_from={workdir}"
        )
    changed = segment.get("changed", {}) if segment["from_step"] == step else {}
    if "input.batch_size" in changed and positions.counts_batches(position):
        size, _ = changed["input.batch_size"]
        raise ValueError(
            f"step {step} of {workdir} is of an earlier version, whose position in the "
            f"data counts batches of {size}; go on with config.input.batch_size={size} "
            f"to the next checkpoint, and then change it"
        )
