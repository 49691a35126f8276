"""Reads checkpoints: lists steps, checks them for damage, restores parameters."""

import contextlib
import json
import os
import pathlib
from collections.abc import Iterator

import jax
import numpy as np
import orbax.checkpoint as ocp
import tensorstore as ts
from absl import logging

from rahf import storage
from rahf.checkpoints import trust
from rahf.checkpoints.checksums import DamagedError, check_checksums
from rahf.checkpoints.metrics_log import read_metrics
from rahf.checkpoints.workdir import CHECKPOINTS, VOCABULARY_FILE, folder, read_config
from rahf.weights import exported, files, matching
from rahf.weights.export_layout import STATE_DICT_FILE


def complete_steps(workdir) -> list[int]:
    """Returns the completely written steps, in ascending order."""
    path = folder(workdir) / CHECKPOINTS
    return sorted(ocp.utils.checkpoint_steps(path)) if path.is_dir() else []


def check_whole(step_folder: pathlib.Path) -> None:
    """Checks a step for damage before Orbax prints a traceback for each array.

    Raises:
      DamagedError: a file is damaged; names it.
    """
    check_checksums(step_folder)
    state = step_folder / "state"
    # For steps without checksums: check that there is a list of arrays, not empty.
    try:
        store = {"driver": "ocdbt", "base": files.folder(state)}
        held = bool(ts.KvStore.open(store).result().list().result())
    except ValueError as error:
        raise DamagedError(f"{state} cannot be read: {_in_one_line(error)}") from error
    if not held:
        raise DamagedError(f"{state} holds no arrays")


@contextlib.contextmanager
def readable(step_folder: pathlib.Path) -> Iterator[None]:
    """Turns Orbax's errors into one line: which step cannot be read, and what to do."""
    try:
        with _quiet():
            yield
    except (ValueError, LookupError, TypeError, AttributeError, OSError) as error:
        why = str(error) if isinstance(error, DamagedError) else _in_one_line(error)
        raise ValueError(f"{describe_damage(step_folder)}: {why}") from error


def describe_damage(step_folder: pathlib.Path) -> str:
    """Returns which step is incomplete, and what to do about it."""
    earlier = [
        step
        for step in complete_steps(step_folder.parent.parent)
        if step_folder.name.isdigit() and step < int(step_folder.name)
    ]
    remedy = f"or use step {earlier[-1]}" if earlier else "there is no earlier step"
    return (
        f"{step_folder} is incomplete or damaged; was a copy interrupted? Copy it "
        f"again ({remedy})"
    )


def _in_one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences Orbax, which warns of items without metadata and logs tracebacks."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.FATAL)
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)


def restore_for_inference(workdir, step: int | str | None = None):
    """Reads what prediction and evaluation need, onto one device, without optimizer.

    Args:
      workdir: the workdir of a training run, a step's folder, `W/checkpoints/<step>`,
        or a folder that rahf.bin.export wrote.
      step: a step, "latest" (default) or "best".

    Returns:
      (config, params, step); the config's vocabulary is the workdir's own file.

    Raises:
      ValueError: this is not a workdir, it has no complete checkpoint, the step does
        not exist or is damaged, the parameters do not fit the config, or the config
        names modules in the folder itself.
    """
    workdir, step = split_step(workdir, step)
    config = read_config(workdir)
    trust.check_modules(config, workdir)
    if exported.is_exported(workdir):
        return _restore_exported(workdir, config, step)
    _refuse_state_dict(workdir)
    number = _find_step(workdir, config, step)
    parts = dict(config.get("imported", {"richhf": ""}))
    if "richhf" not in parts:
        raise ValueError(
            f"{workdir} holds imported parts, {' and '.join(parts)}, without heads: "
            f"train from them first (--config.init_from={workdir})"
        )
    config.input.vocabulary = str(folder(workdir) / VOCABULARY_FILE)
    return config, _restore_params(_step_folder(workdir, number)), number


def split_step(workdir, step=None):
    """Returns the workdir and the step that a path names.

    Args:
      workdir: a workdir or an exported folder, which comes back as it is with `step`,
        or one step's folder, `W/checkpoints/1200`, which gives (W, "1200").
      step: a step, "latest", "best" or None.

    Raises:
      ValueError: the path names one step and `step` another.
    """
    path = folder(workdir)
    if path.parent.name != CHECKPOINTS or not (path / "state").is_dir():
        return workdir, step
    if step is not None and str(step) != path.name:
        raise ValueError(
            f"{workdir} is step {path.name}, but step={step!r} was requested"
        )
    return os.fspath(path.parent.parent), path.name


def _step_folder(workdir, step: int) -> pathlib.Path:
    return storage.absolute(folder(workdir) / CHECKPOINTS / str(step))


def _find_step(workdir, config, step: int | str | None) -> int:
    steps = complete_steps(workdir)
    if not steps:
        every = config.get("checkpoint", {}).get("every_steps")
        raise ValueError(
            f"{workdir}/{CHECKPOINTS} has no complete checkpoint; a run writes one every "
            f"config.checkpoint.every_steps={every} steps"
        )
    if step is None or step == "latest":
        return steps[-1]
    if step == "best":
        return _best_step(workdir, config, steps)
    number = _parse_step(workdir, step, steps)
    if number not in steps:
        raise ValueError(f"{workdir} has no step {number}; it has {steps}")
    return number


def _parse_step(workdir, step: int | str, has) -> int:
    if isinstance(step, str) and step.isdecimal():
        return int(step)
    if isinstance(step, int) and not isinstance(step, bool):
        return step
    raise ValueError(
        f"step={step!r}: expected 'latest', 'best' or one of the steps of {workdir}: {has}"
    )


def _refuse_state_dict(path) -> None:
    if (folder(path) / STATE_DICT_FILE).exists():
        raise ValueError(
            f"{path} is an export for PyTorch (--format=richhf); use the workdir it "
            f"came from, export that with --format=safetensors, or import this one "
            f"with rahf.bin.import_weights --richhf={path}/{STATE_DICT_FILE}"
        )


def _restore_exported(workdir, config, step):
    """Restores an exported folder, whose one step is both its latest and its best."""
    params, found = exported.read_params(workdir)
    trust.check_parameters(config, params, workdir)
    named = step not in (None, "latest", "best")
    if named and _parse_step(workdir, step, [found]) != found:
        raise ValueError(
            f"{workdir} has no step {step}; it was exported from step {found}"
        )
    config.input.vocabulary = str(folder(workdir) / VOCABULARY_FILE)
    return config, jax.device_put(params, jax.local_devices()[0]), found


def read_params(path) -> dict[str, np.ndarray]:
    """Reads the parameters of a checkpoint into host memory.

    Args:
      path: a workdir (its latest step is read), a step's folder,
        `W/checkpoints/<step>`, or a folder that rahf.bin.export wrote.

    Returns:
      Flat parameters, {"vit/cls": array}.

    Raises:
      ValueError: there is no complete checkpoint.
    """
    here = find_params(path)
    if here is None:
        return matching.flatten(exported.read_params(path)[0])
    return matching.flatten(_restore_params(here, host=True))


def find_params(path) -> pathlib.Path | None:
    """Finds the step's folder whose parameters `read_params` reads; reads no array.

    Returns:
      The folder; None where the path is of an exported model.

    Raises:
      ValueError: there is no complete checkpoint.
    """
    here = folder(path)
    if exported.is_exported(path):
        return None
    _refuse_state_dict(path)
    steps = complete_steps(path)
    if steps:
        here = here / CHECKPOINTS / str(steps[-1])
    elif not (here / "state").is_dir():
        raise ValueError(
            f"{path} holds no complete checkpoint; expected a workdir of "
            f"rahf.bin.train or rahf.bin.import_weights, its checkpoints/<step>, or a "
            f"folder of rahf.bin.export"
        )
    return storage.absolute(here)


def _restore_params(step_folder: pathlib.Path, *, host: bool = False):
    """Reads only the parameters, unsharded: onto this process's first device, or into
    host memory as numpy arrays."""
    with readable(step_folder):
        check_whole(step_folder)
        return _read_item(step_folder / "state", host)["params"]


def _read_item(path, host: bool):
    with ocp.PyTreeCheckpointer() as checkpointer:
        metadata = checkpointer.metadata(path).item_metadata
        device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        wanted = jax.tree.map(
            lambda m: jax.ShapeDtypeStruct(m.shape, m.dtype, sharding=device),
            {"params": metadata["params"]},
        )
        if host:
            numpy = ocp.RestoreArgs(restore_type=np.ndarray)
            restore_args = jax.tree.map(lambda _: numpy, wanted)
        else:
            restore_args = ocp.checkpoint_utils.construct_restore_args(wanted)
        return checkpointer.restore(
            path,
            args=ocp.args.PyTreeRestore(
                wanted, restore_args=restore_args, partial_restore=True
            ),
        )


def _best_step(workdir, config, steps: list[int]) -> int:
    metric = config.checkpoint.best_metric
    scores = {step: _saved_metrics(workdir, step).get(metric) for step in steps}
    measured = {step: score for step, score in scores.items() if score is not None}
    if measured:
        return max(measured, key=lambda step: measured[step])
    logged = {name for row in read_metrics(workdir) for name in row}
    found = sorted(name.removeprefix("eval/") for name in logged if name[:5] == "eval/")
    raise ValueError(
        f"{workdir} has no best step: config.checkpoint.best_metric={metric} was "
        f"measured at none of its steps {steps}; the run measured "
        f"{', '.join(found) or 'no metrics'}. Use a step or 'latest'"
    )


def _saved_metrics(workdir, step: int) -> dict[str, float]:
    """Returns the metrics that Orbax saved with a step to choose the best by."""
    path = _step_folder(workdir, step) / "metrics" / "metrics"
    return json.loads(storage.read_bytes(path)) if path.exists() else {}
