"""Reads Hugging Face's ViT and T5, and the first author's release, made of both.

They are read from safetensors, including sharded files, or a state dict, with the names
of `rahf.weights.export_layout`. Neither transformers nor PyTorch is needed.
"""

import json
import os
from collections.abc import Mapping, Sequence

import ml_dtypes
import numpy as np
from etils import epath
from safetensors import SafetensorError, deserialize

from rahf.weights import dinov2, export_layout, state_dict, values
from rahf.weights.export_layout import LINEAR, SAME, Row

Arrays = dict[str, np.ndarray]
Shapes = Mapping[str, tuple[int, ...]]

_INDEX = "model.safetensors.index.json"
_SINGLE = "model.safetensors"
_DTYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "I64": np.int64,  # position ids that some files have beside the parameters
}
#: Prefixes of the names if the model is part of a larger one.
_PREFIXES = {"vit": "vit.", "t5": "transformer."}


def is_checkpoint(path: str | os.PathLike) -> bool:
    """Returns whether a path is a safetensors file, or a folder or index of such."""
    path = epath.Path(path)
    if path.name.endswith((".safetensors", ".safetensors.index.json")):
        return True
    return (path / _INDEX).exists() or (path / _SINGLE).exists()


def read(path: str | os.PathLike, part: str, wanted: Shapes) -> Arrays:
    """Reads `google/vit-*`, `facebook/dinov2-*`, `t5-*`, `google/t5-v1_1-*` or `google/flan-t5-*`.

    Args:
      path: a folder from the hub, a `.safetensors` file, or the index of sharded ones.
      part: "vit" or "t5".
      wanted: shapes of the model's parameters; they determine the number of heads.

    Returns:
      Flat tensors under this project's names; unknown ones keep their own.

    Raises:
      ValueError: a file is missing or damaged.
    """
    given_arrays = read_safetensors(path)
    shapes = {k: v for k, v in wanted.items() if k.startswith(f"{part}/")}
    if part == "vit" and dinov2.is_dinov2(given_arrays):
        return dinov2.convert(given_arrays, shapes, os.fspath(path))
    state: Arrays = {}
    for given, value in given_arrays.items():
        name = f"{part}.{given.removeprefix(_PREFIXES[part])}"
        if name in state:
            raise ValueError(
                f"{os.fspath(path)}: {name} appears twice, once as {given}"
            )
        state[name] = value
    return _to_ours(state, shapes, path)


def read_release(path: str | os.PathLike, wanted: Shapes) -> Arrays:
    """Reads the first author's `.pt`, the whole model; otherwise as `read`."""
    return _to_ours(state_dict.read(path), wanted, path)


def read_safetensors(path: str | os.PathLike) -> Arrays:
    """Reads every tensor of a folder, an index or a file."""
    path = epath.Path(path)
    if path.is_dir():
        path = path / (_INDEX if (path / _INDEX).exists() else _SINGLE)
    if not path.name.endswith(".json"):
        return _read_file(path)
    try:
        file_of = json.loads(path.read_text())["weight_map"]
        files = sorted({os.fspath(file) for file in file_of.values()})
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise ValueError(
            f"{path} is not a safetensors index: {type(error).__name__}: {error}"
        ) from error
    arrays: Arrays = {}
    for file in files:
        if os.path.basename(file) != file or file in ("", ".", ".."):
            raise ValueError(f"{path} names {file!r}, which is not in its folder")
        found = _read_file(path.parent / file)
        if twice := sorted(found.keys() & arrays.keys()):
            raise ValueError(
                f"{path.parent / file}: {twice[0]} is also in another file"
            )
        arrays |= found
    if lost := sorted(file_of.keys() - arrays.keys()):
        raise ValueError(
            f"{path} lists {len(lost)} tensors that its files lack, such as {lost[0]}; "
            "download it again"
        )
    return arrays


def _read_file(path: epath.Path) -> Arrays:
    try:
        tensors = deserialize(path.read_bytes())
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    except SafetensorError as error:
        raise ValueError(
            f"{path} is not a complete safetensors file ({error}); is it a git-lfs "
            "pointer, or was a download interrupted?"
        ) from error
    arrays = {}
    for name, tensor in tensors:
        if tensor["dtype"] not in _DTYPES:
            raise ValueError(
                f"{path}: tensor {name} has dtype {tensor['dtype']}; expected one of "
                f"{', '.join(_DTYPES)} (a quantised model cannot be read)"
            )
        data = np.frombuffer(tensor["data"], _DTYPES[tensor["dtype"]])
        arrays[name] = data.reshape(tensor["shape"])
    return arrays


def _to_ours(
    state: Mapping[str, np.ndarray], wanted: Shapes, source: str | os.PathLike
) -> Arrays:
    source = os.fspath(source)
    rows = export_layout.make_rows(wanted)
    found, used = {}, set()
    for row in rows:
        used.update(row.theirs)
        # Tied tables may be stored under any or all of their names.
        names = [name for name in row.theirs if name in state]
        for name in names[1:]:
            for tied in (names[0], name):  # NaN equals nothing
                values.check_finite(source, tied, state[tied])
            if not np.array_equal(state[names[0]], state[name]):
                raise ValueError(
                    f"{source}: {names[0]} and {name} differ, but this model has one "
                    "table for both: these weights belong to another kind of model "
                    "(see config.model.t5.gated)"
                )
        if names:
            value = np.asarray(state[names[0]])
            found[row.ours] = _turn(row, value, wanted[row.ours])
    return found | {name: x for name, x in state.items() if name not in used}


def _turn(row: Row, value: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Rearranges the axes; leaves an array of another size for the report to show."""
    if row.turn is SAME:
        return value
    if row.turn is LINEAR:
        return value.T
    try:
        return row.turn.back(value, tuple(shape))
    except ValueError:
        return value
