"""Imports published checkpoints into a workdir, for training or prediction."""

import dataclasses
import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import ml_collections
import numpy as np
import orbax.checkpoint as ocp

from rahf import storage
from rahf.checkpoints import restore, workdir
from rahf.checkpoints.checksums import write_checksums
from rahf.checkpoints.trust import parameter_shapes
from rahf.models.rahf import make_model
from rahf.weights import augreg, dinov2, huggingface, huggingface_config, matching, t5x
from rahf.weights.output import check_space, claimed, failures_told

_WHOLE = "richhf"


def import_weights(
    config,
    output: str | os.PathLike,
    *,
    vit: str = "",
    t5: str = "",
    richhf: str = "",
    resize_vocabulary: bool = False,
) -> matching.MatchReport:
    """Writes a workdir with the parameters of published checkpoints, at step 0.

    Args:
      config: the config of the model.
      output: the workdir; must not hold a checkpoint.
      vit: an `.npz` file of AugReg or big_vision, or Hugging Face safetensors.
      t5: a T5X or Orbax folder, or Hugging Face safetensors.
      richhf: the first author's `.pt`, the whole model; excludes the other two.
      resize_vocabulary: see `rahf.weights.matching.match`.

    Returns:
      The report on every tensor.

    Raises:
      ValueError: a source is not of the expected format or does not fit the model, or
        the output is in use or cannot be written. The output is then left empty, or,
        if the disk fails at the end, without a checkpoint.
    """
    sources = {"vit": vit, "t5": t5, _WHOLE: richhf}
    sources = {part: os.fspath(path) for part, path in sources.items() if path}
    if not sources or (_WHOLE in sources and len(sources) > 1):
        raise ValueError(
            f"expected --vit, --t5 or both, or --richhf alone; got "
            f"{', '.join(f'--{part}' for part in sources) or 'none'}"
        )
    _check(config, output, sources)
    wanted = parameter_shapes(config)
    if _WHOLE not in sources:
        wanted = {k: v for k, v in wanted.items() if k.split("/")[0] in sources}
    with claimed(output, "an import of weights"):
        check_space(output, 4 * sum(math.prod(shape) for shape in wanted.values()))
        found: dict[str, np.ndarray] = {}
        notes = []
        for part, path in sources.items():
            arrays, note = _read(part, path, wanted, config)
            found |= arrays
            notes += [note] if note else []
        loaded, report = matching.match(
            {name: _abstract(shape) for name, shape in wanted.items()},
            found,
            source=" + ".join(sources.values()),
            resize_vocabulary=resize_vocabulary,
        )
        report = dataclasses.replace(report, notes=tuple(notes))
        with failures_told(output):
            _write(config, output, sources, loaded, report)
    return report


def _abstract(shape: tuple[int, ...]) -> np.ndarray:
    return np.broadcast_to(np.float32(0), shape)


def _check(config, output: str | os.PathLike, sources: Mapping[str, str]) -> None:
    if restore.complete_steps(output):
        raise ValueError(
            f"--output={os.fspath(output)} already holds a checkpoint; choose another"
        )
    if sources.keys() & {"t5", _WHOLE} and config.input.vocabulary == "scenes":
        raise ValueError(
            "a published T5 needs the SentencePiece model it was trained with: set "
            "--config.input.vocabulary=spiece.model, published with the weights"
        )
    workdir.check_vocabulary(config)


def _read(part: str, path: str, wanted, config) -> tuple[dict[str, np.ndarray], str]:
    """Returns the arrays, and a note on what could not be checked."""
    if part == _WHOLE:
        return huggingface.read_release(path, wanted), ""
    if huggingface.is_checkpoint(path):
        ours = getattr(make_model(config).config, part)
        note = huggingface_config.check(path, part, ours)
        return huggingface.read(path, part, wanted), note
    if part == "vit":
        if path.endswith(".npz"):
            return augreg.read(path, wanted), ""
        if path.endswith((".pth", ".pt")):
            return dinov2.read(path, wanted), ""
        expected = "an AugReg or big_vision .npz file, a .pth file of DINOv2"
    else:
        if t5x.is_checkpoint(path):
            return t5x.read(path, wanted), ""
        expected = "a T5X checkpoint_<step> folder (legacy or Orbax)"
    exists = "://" in path or pathlib.Path(path).exists()
    raise ValueError(
        f"--{part}={path}: expected {expected}, or Hugging Face safetensors, but it "
        + ("is something else" if exists else "does not exist")
    )


def _write(config, output, sources: Mapping[str, str], loaded, report) -> None:
    output = storage.place(output)
    written: Any = ml_collections.ConfigDict(config.to_dict())
    with written.unlocked():
        written.imported = ml_collections.ConfigDict(dict(sources))
    workdir.write_config(output, written)
    report.write(output)
    params = matching.unflatten(loaded)
    try:
        with ocp.CheckpointManager(
            storage.absolute(output / workdir.CHECKPOINTS)
        ) as manager:
            item = ocp.args.Composite(state=ocp.args.StandardSave({"params": params}))
            manager.save(0, args=item)
            manager.wait_until_finished()
        write_checksums(output / workdir.CHECKPOINTS / "0")
    except (ValueError, RuntimeError) as error:  # from tensorstore, as for a full disk
        why = " ".join(str(error).split())[:300]
        raise ValueError(
            f"--output={output}: the parameters could not be written: {why}"
        ) from error
