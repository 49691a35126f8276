"""Writes a state dict as `torch.save` does, without PyTorch and without pickling.

Such a file is a zip archive: `data.pkl` describes the tensors in pickle opcodes, and a
file per storage holds their bytes. The description is assembled from opcodes here, so
no object is ever pickled; it uses only what `torch.load(weights_only=True)` allows.
"""

import os
import pickle
import struct
import zipfile
from collections.abc import Mapping

import numpy as np

from rahf import durable

_STORAGES = {"float32": "FloatStorage", "float16": "HalfStorage"} | {
    "bfloat16": "BFloat16Storage",
    "float64": "DoubleStorage",
    "int64": "LongStorage",
    "int32": "IntStorage",
}
_ROOT = "archive"  # the folder inside the zip; PyTorch accepts any name
_ALIGNMENT = 64  # bytes, of every array in the file, so that it can be memory-mapped


def write_state_dict(path: str | os.PathLike, state: Mapping[str, np.ndarray]) -> None:
    """Writes named arrays so that `torch.load` returns an OrderedDict of tensors.

    The file is written whole or not at all.

    Args:
      path: the file to write; an existing one is replaced.
      state: arrays by name, in order. Names with the identical array object share a
        storage, as tied parameters do in PyTorch.

    Raises:
      ValueError: PyTorch does not have an array's dtype.
    """
    storages: dict[int, tuple[str, np.ndarray]] = {}  # by the array's identity
    for name, array in state.items():
        if array.dtype.name not in _STORAGES:
            raise ValueError(
                f"{name}: expected one of {', '.join(_STORAGES)}, got {array.dtype}"
            )
        storages.setdefault(id(array), (str(len(storages)), array))
    with (
        durable.writing(path) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive,
    ):
        _add(archive, "data.pkl", _describe(state, storages))
        _add(archive, "byteorder", b"little")
        for key, array in storages.values():
            little = array.astype(array.dtype.newbyteorder("<"), copy=False)
            # As bytes: numpy's buffers do not know bfloat16.
            _add(archive, f"data/{key}", np.ascontiguousarray(little).view(np.uint8))
        _add(archive, "version", b"3\n")


def _add(archive: zipfile.ZipFile, name: str, data) -> None:
    """Adds a file whose first byte is aligned, by padding the header before it."""
    info = zipfile.ZipInfo(f"{_ROOT}/{name}")  # dated 1980: equal weights, equal files
    data = memoryview(data).cast("B")
    start = archive.fp.tell() + 30 + len(info.filename.encode())  # pyright: ignore
    padding = -(start + 4) % _ALIGNMENT
    info.extra = b"FB" + struct.pack("<H", padding) + b"Z" * padding
    archive.writestr(info, data)


def _describe(state: Mapping[str, np.ndarray], storages) -> bytes:
    """Returns the opcodes that build OrderedDict([(name, tensor), ...])."""
    empty = pickle.GLOBAL + b"collections\nOrderedDict\n" + _tuple() + pickle.REDUCE
    items = []
    for name, array in state.items():
        key, _ = storages[id(array)]
        storage = _tuple(
            _text("storage"),
            pickle.GLOBAL + f"torch\n{_STORAGES[array.dtype.name]}\n".encode(),
            _text(key),
            _text("cpu"),
            _int(array.size),
        )
        strides = np.cumprod((1, *array.shape[:0:-1]))[::-1] if array.ndim else ()
        items += [
            _text(name),
            pickle.GLOBAL + b"torch._utils\n_rebuild_tensor_v2\n",
            _tuple(
                storage + pickle.BINPERSID,
                _int(0),  # offset in the storage
                _tuple(*map(_int, array.shape)),
                _tuple(*map(_int, strides)),
                pickle.NEWFALSE,  # requires_grad
                empty,  # hooks
            ),
            pickle.REDUCE,
        ]
    filled = pickle.MARK + b"".join(items) + pickle.SETITEMS
    return pickle.PROTO + b"\x02" + empty + filled + pickle.STOP


def _tuple(*parts: bytes) -> bytes:
    return pickle.MARK + b"".join(parts) + pickle.TUPLE


def _text(text: str) -> bytes:
    data = text.encode()
    return pickle.BINUNICODE + struct.pack("<I", len(data)) + data


def _int(value: int) -> bytes:
    if value < 1 << 31:
        return pickle.BININT + struct.pack("<i", value)
    return pickle.LONG1 + b"\x08" + struct.pack("<q", value)
