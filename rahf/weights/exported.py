"""An exported model's folder: parameters in safetensors beside their config.

model.safetensors   float32 arrays by path, "t5/encoder/encoder_norm/scale"
config.json         the training config
vocabulary.model    the SentencePiece model
README.md           the model card
"""

import os
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors
from flax import traverse_util
from safetensors.numpy import save_file

from rahf import durable, storage

PARAMS_FILE = "model.safetensors"


def write_params(path: str | os.PathLike, params: Mapping[str, Any], step: int) -> None:
    """Writes flat parameters and the step they are from, atomically."""
    arrays = {name: np.ascontiguousarray(array) for name, array in params.items()}
    # "format" is what other readers of safetensors look for.
    about = {"format": "np", "library": "rahf", "step": str(step)}
    with durable.writing(path) as temporary:
        save_file(arrays, temporary, about)


def is_exported(folder: str | os.PathLike) -> bool:
    """Returns whether a folder holds parameters in this format."""
    return (storage.place(folder) / PARAMS_FILE).is_file()


def read_params(folder: str | os.PathLike) -> tuple[Any, int]:
    """Reads the parameters as a tree of numpy arrays, and their step.

    Raises:
      ValueError: the file is incomplete, not safetensors, or not written by rahf.
    """
    path = storage.place(folder) / PARAMS_FILE
    try:
        with (
            storage.local_copy(path) as copy,
            safetensors.safe_open(copy, framework="numpy") as file,
        ):
            about = file.metadata() or {}
            if about.get("library") != "rahf" or not re.fullmatch(
                r"[0-9]{1,18}", about.get("step", "")
            ):
                raise ValueError(
                    f"{path} was not written by rahf.bin.export: its metadata is "
                    f"{about}; import weights from elsewhere with "
                    f"rahf.bin.import_weights"
                )
            flat = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, TypeError, OSError) as error:
        raise ValueError(
            f"{path} cannot be read ({path.stat().st_size} bytes; is it a git-lfs "
            f"pointer, or was a download interrupted?): {error}"
        ) from error
    for name in flat:
        parents = [name[: match.start()] for match in re.finditer("/", name)]
        if inside := [parent for parent in parents if parent in flat]:
            raise ValueError(
                f"{path}: {inside[0]} is an array, but {name} is inside it"
            )
    return traverse_util.unflatten_dict(flat, sep="/"), int(about["step"])
