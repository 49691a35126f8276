"""Reads T5 from T5X checkpoints: legacy and Orbax, unrolled and scanned layers.

The legacy layout is a msgpack file `checkpoint`, whose leaves are arrays or specs of
arrays. For each spec there is a zarr folder beside it, named by the dotted path
(`target.encoder.layers_0.mlp.wi.kernel`). The folders are opened by that name, since
specs differ between versions and contain paths of the machine that wrote them.

D is T5's width, H and K are heads and their width, L layers.
"""

import contextlib
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import ml_dtypes
import msgpack
import numpy as np
import tensorstore as ts
from flax import serialization

from rahf.weights import chunks, files, values

Arrays = dict[str, np.ndarray]
Shapes = Mapping[str, tuple[int, ...]]

_LEGACY_FILE = "checkpoint"
#: An Orbax checkpoint's folder has at least one of these.
_ORBAX_FILES = ("_METADATA", "manifest.ocdbt", "_CHECKPOINT_METADATA")
#: The files that mark an array, and the driver that reads it.
_ZARR_FILES = {".zarray": "zarr", "zarr.json": "zarr3"}
#: Shared by the layers of a stack; older T5X networks store a copy in every layer.
_BIAS = "relpos_bias/rel_embedding"


def is_checkpoint(path: str | os.PathLike) -> bool:
    """Returns whether a folder holds a checkpoint of either layout."""
    return bool(_orbax_folder(path) or files.exists(files.join(path, _LEGACY_FILE)))


def _orbax_folder(path: str | os.PathLike) -> str:
    """Returns the folder of Orbax's tree, the step's or the item's; "" if neither."""
    for folder in (files.join(path, "state"), os.fspath(path)):
        if any(files.exists(files.join(folder, name)) for name in _ORBAX_FILES):
            return folder
    return ""


def read(path: str | os.PathLike, wanted: Shapes | None = None) -> Arrays:
    """Reads the parameters of a T5X checkpoint under this project's names.

    Args:
      path: a folder `checkpoint_<step>`, local, gs:// or s3://.
      wanted: shapes of the model's parameters; a checkpoint that describes far larger
        arrays is refused before they are read.

    Returns:
      Flat parameters, {"t5/encoder/layers_0/attention/query/kernel": float32[D, H * K]}.

    Raises:
      ValueError: it is not such a checkpoint, a part is missing or damaged, or its
        layers have separate position biases.
    """
    folder = _orbax_folder(path)
    flat = _read_orbax(folder, wanted) if folder else _read_legacy(path, wanted)
    return {f"t5/{name}": value for name, value in unroll(flat, path).items()}


def _read_legacy(path: str | os.PathLike, wanted: Shapes | None) -> Arrays:
    data = files.read(files.join(path, _LEGACY_FILE))
    try:
        tree: Any = serialization.msgpack_restore(data)
        version = int(tree.get("version", 0))
        flat = _leaves(tree.get("optimizer", tree)["target"])
    except (
        *(LookupError, TypeError, AttributeError, ValueError, ArithmeticError),
        *(RecursionError, MemoryError, msgpack.UnpackException),
    ) as error:
        raise _damaged(path, error) from error
    stored = {
        name: {"driver": "zarr", "kvstore": _array_store(path, name)}
        for name, leaf in flat.items()
        if isinstance(leaf, dict)
    }
    arrays = {name: leaf for name, leaf in flat.items() if name not in stored}
    arrays |= _read_arrays(stored, path, wanted)
    return {name: _decode(x, version, name, path) for name, x in arrays.items()}


def _array_store(path: str | os.PathLike, name: str) -> Any:
    return files.kvstore(files.join(path, f"target.{name.replace('/', '.')}"))


def _decode(
    value: np.ndarray, version: int, name: str, path: str | os.PathLike
) -> np.ndarray:
    """Returns float32; before version 3, bfloat16 was stored as uint16 bits."""
    if version < 3 and value.dtype == np.uint16:
        value = value.view(ml_dtypes.bfloat16)
    values.check_dtype(os.fspath(path), name, value.dtype)
    with np.errstate(over="ignore"):  # infinite values are refused when loaded
        return value.astype(np.float32)


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flattens a tree whose leaves are arrays or specs, dicts with a "driver".

    Raises:
      TypeError: a name is not a string, or a leaf is something else.
    """
    flat = {}
    for name, value in tree.items():
        if not isinstance(name, str):
            raise TypeError(f"{prefix}: expected strings as names, got {name!r}")
        if isinstance(value, dict) and "driver" not in value:
            flat |= _leaves(value, f"{prefix}{name}/")
        elif isinstance(value, dict | np.ndarray | np.generic):
            flat[prefix + name] = value
        else:
            raise TypeError(
                f"{prefix}{name}: expected an array, got {type(value).__name__}"
            )
    return flat


def _damaged(path: str | os.PathLike, why: object) -> ValueError:
    return ValueError(
        f"{os.fspath(path)} is not a complete T5X checkpoint ({why}); expected a "
        f"folder checkpoint_<step> with {_LEGACY_FILE!r} in msgpack and a folder "
        "target.<name> for each array, or one written by Orbax"
    )


def _read_orbax(folder: str, wanted: Shapes | None) -> Arrays:
    """Reads the arrays that are T5's parameters with tensorstore.

    Orbax names arrays by their dotted path, in one OCDBT database or in a folder each,
    in zarr version 2 or 3. Its own reader is not used because it mistakes a gs:// URL
    for a local path.
    """
    store = files.folder(folder)
    if files.exists(files.join(folder, "manifest.ocdbt")):
        store = {"driver": "ocdbt", "base": store}
    try:
        opened = ts.KvStore.open(store).result()
        keys = [key.decode().rpartition("/") for key in opened.list().result()]
    except ValueError as error:
        raise _damaged(folder, error) from error
    drivers = {name: _ZARR_FILES[file] for name, _, file in keys if file in _ZARR_FILES}
    target = _find_target(drivers, folder)
    stored = {
        name.removeprefix(target).replace(".", "/"): {
            "driver": driver,
            "kvstore": (opened / f"{name}/").spec().to_json(),
        }
        for name, driver in drivers.items()
        if name.startswith(target)
    }
    arrays = _read_arrays(stored, folder, wanted)
    return {name: _decode(x, 3, name, folder) for name, x in arrays.items()}


def _read_arrays(
    stored: Mapping[str, Any], path: str | os.PathLike, wanted: Shapes | None
) -> Arrays:
    """Reads zarr arrays by their specs; missing data is an error, not zeros.

    All are opened, and their sizes compared with the model's, before any is read.
    """
    pending = {}
    for name, spec in stored.items():
        with _report_damage(path, name):
            pending[name] = ts.open(
                spec | {"fill_missing_data_reads": False}, read=True
            )
    opened, shapes = {}, {}
    for name, future in pending.items():
        with _report_damage(path, name):
            opened[name] = future.result()
            shapes[name] = opened[name].shape
            chunk = opened[name].chunk_layout.read_chunk.shape or ()
            # A chunk is unpacked whole, even if the array is smaller.
            if 0 < math.prod(shapes[name]) < math.prod(chunk):
                shapes[name] = chunk
    values.check_count(os.fspath(path), shapes, wanted)
    for name, array in opened.items():
        with _report_damage(path, name):
            chunks.check_sizes(array)
    arrays = {}
    for name, array in opened.items():
        with _report_damage(path, name):
            arrays[name] = np.asarray(array.read().result())
    return arrays


@contextlib.contextmanager
def _report_damage(path: str | os.PathLike, name: str) -> Iterator[None]:
    try:
        yield
    except (
        *(ValueError, LookupError, TypeError, NotImplementedError, ArithmeticError),
        *(OSError, RuntimeError, MemoryError),
    ) as error:
        why = " ".join(str(error).split())
        raise _damaged(path, f"array {name}: {why}") from error


def _find_target(names: Iterable[str], folder: str) -> str:
    """Returns the prefix of T5's parameters, such as "target."."""
    for name in names:
        if found := re.match(
            r"((?:optimizer\.|target\.|params\.)*)token_embedder\.", name
        ):
            return found[1]
    top = sorted({name.partition(".")[0] for name in names})
    raise _damaged(folder, f"no T5 under target or params, only {', '.join(top)}")


def unroll(flat: Mapping[str, np.ndarray], path: str | os.PathLike = "") -> Arrays:
    """Converts any T5X layout to that of `examples/t5`, this project's.

    Scanned layers (`encoder/encoder/...`, stacked along axis 1) become layers_0,
    layers_1, ...; separate head axes are joined; layers' copies of a position bias
    become the stack's one.

    Raises:
      ValueError: the position biases of the layers differ.
    """
    unrolled: Arrays = {}
    for name, value in flat.items():
        if scanned := re.fullmatch(r"(encoder|decoder)/\1/(.+)", name):
            stack, inner = scanned.groups()
            for layer in range(values.count_layers(os.fspath(path), name, value, 1)):
                unrolled[f"{stack}/layers_{layer}/{inner}"] = value[:, layer]
        else:
            unrolled[name] = value
    joined: Arrays = {}
    for name, value in unrolled.items():
        if shared := re.fullmatch(rf"(\w+)/layers_\d+/({_BIAS})", name):
            values.check_finite(os.fspath(path), name, value)  # NaN equals nothing
            name = "/".join(shared.groups())
            if name in joined and not np.array_equal(joined[name], value):
                raise ValueError(
                    f"{os.fspath(path)}: every layer has its own {_BIAS}, and they "
                    "differ (is this umT5?); in T5 1.0 and 1.1 the layers of a stack "
                    "share one"
                )
        joined[name] = _join_heads(name, value)
    return joined


def _join_heads(name: str, value: np.ndarray) -> np.ndarray:
    """[D, H, K] -> [D, H * K], and for output projections [H, K, D] -> [H * K, D]."""
    if value.ndim != 3:
        return value
    last = value.shape[-1]
    return value.reshape(-1, last) if "/out/" in name else value.reshape(len(value), -1)
