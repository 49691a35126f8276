"""Published checkpoints -> a workdir that training starts from, or predict uses."""

import os
import pathlib
from collections.abc import Mapping
from typing import Any

import ml_collections
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from rahf.checkpoints import checkpoint
from rahf.checkpoints.trust import parameter_shapes
from rahf.weights import augreg, huggingface, matching, t5x

_WHOLE = "richhf"


def import_weights(
    config,
    output: str | os.PathLike,
    *,
    vit: str = "",
    t5: str = "",
    richhf: str = "",
    resize_vocabulary: bool = False,
) -> matching.Report:
    """Writes a workdir with the parameters of published checkpoints, at step 0.

    Args:
      config: of the model they are for.
      output: the workdir; must not hold a checkpoint.
      vit: `.npz` of AugReg or big_vision, or safetensors of Hugging Face.
      t5: a T5X or Orbax folder, or safetensors of Hugging Face.
      richhf: the first author's `.pt`, the whole model; excludes the other two.
      resize_vocabulary: see `rahf.weights.matching.match`.

    Returns:
      What became of every tensor.

    Raises:
      ValueError: a source is not what it should be or does not fit the model, or the
        output is in use. Nothing is written then.
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
    found: dict[str, np.ndarray] = {}
    for part, path in sources.items():
        found |= _read(part, path, wanted)
    loaded, report = matching.match(
        {name: np.broadcast_to(np.float32(0), shape) for name, shape in wanted.items()},
        found,
        source=" + ".join(sources.values()),
        resize_vocabulary=resize_vocabulary,
    )
    _write(config, output, sources, loaded, report)
    return report


def _check(config, output: str | os.PathLike, sources: Mapping[str, str]) -> None:
    if checkpoint.complete_steps(output):
        raise ValueError(
            f"--output={os.fspath(output)} already holds a checkpoint; choose another"
        )
    if sources.keys() & {"t5", _WHOLE} and config.input.vocabulary == "scenes":
        raise ValueError(
            "a published T5 needs the SentencePiece model it was trained with: "
            "--config.input.vocabulary=spiece.model, from the place the weights are from"
        )
    checkpoint.check_vocabulary(config)


def _read(part: str, path: str, wanted) -> dict[str, np.ndarray]:
    if part == _WHOLE:
        return huggingface.read_release(path, wanted)
    if huggingface.is_checkpoint(path):
        return huggingface.read(path, part, wanted)
    if part == "vit":
        if path.endswith(".npz"):
            return augreg.read(path)
        expected = "an .npz file of AugReg or big_vision"
    else:
        if t5x.is_checkpoint(path):
            return t5x.read(path)
        expected = "a checkpoint_<step> folder of T5X (legacy or Orbax)"
    there = "://" in path or pathlib.Path(path).exists()
    raise ValueError(
        f"--{part}={path}: expected {expected}, or safetensors of Hugging Face, got "
        + ("something else" if there else "nothing of that name")
    )


def _write(config, output, sources: Mapping[str, str], loaded, report) -> None:
    output = epath.Path(output)
    written: Any = ml_collections.ConfigDict(config.to_dict())
    with written.unlocked():
        written.imported = ml_collections.ConfigDict(dict(sources))
    checkpoint.write_config(output, written)
    report.write(output)
    params = matching.unflatten(loaded)
    with ocp.CheckpointManager((output / "checkpoints").resolve()) as manager:
        item = ocp.args.Composite(state=ocp.args.StandardSave({"params": params}))
        manager.save(0, args=item)
        manager.wait_until_finished()
