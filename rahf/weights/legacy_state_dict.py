"""Reads the state dict in a file that PyTorch before 1.6 wrote.

It is a row of pickles, a magic number, the version of the format, facts of the machine,
the description of the tensors, and the keys of their storages; then, for each key, the
number of values (int64) and the values.
"""

import io
import os
import pickle
import pickletools
from collections.abc import Mapping
from typing import IO, Any

import numpy as np

from rahf.weights.unpickling import Unpickler, check_storage

_MAGIC = 0x1950A86A20F9469CFC6C
_VERSION = 1001
# How a pickle of the magic number begins: protocol 2, an integer of 10 bytes.
_START = b"\x80\x02\x8a\n" + _MAGIC.to_bytes(10, "little")
#: Largest size of the pickles in bytes: about 25,000 tensors.
_LONGEST = 8 << 20


def is_legacy(path: str | os.PathLike) -> bool:
    """Whether a file begins as `torch.save` before PyTorch 1.6 began it."""
    with open(path, "rb") as file:
        return file.read(len(_START)) == _START


def read(path: str | os.PathLike) -> Mapping[Any, Any]:
    """Returns what the file holds, its tensors as arrays.

    Raises:
      ValueError, or one of `unpickling.FORMAT_ERRORS`: it is damaged, or names something
        that no state dict needs.
    """
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        pickles = io.BytesIO(file.read(_LONGEST))
        magic, version, machine = (_Unpickler(_next(pickles), 0).load() for _ in "123")
        if magic != _MAGIC or version != _VERSION or not isinstance(machine, dict):
            raise ValueError(f"expected version {_VERSION} of the format")
        if machine.get("little_endian") is not True:
            raise ValueError("expected values in little-endian order")
        unpickler = _Unpickler(_next(pickles), size)
        found = unpickler.load()
        keys = _Unpickler(_next(pickles), 0).load()
        if not isinstance(found, Mapping) or not isinstance(keys, list):
            kind = type(found).__name__
            raise ValueError(f"expected a dict, got {kind}")  # noqa: TRY004
        file.seek(pickles.tell())
        if sorted(map(str, keys)) != sorted(unpickler.storages):
            raise ValueError("the storages are not those of the tensors")
        for key in keys:
            _fill(file, str(key), unpickler.storages[str(key)])
    return found


def _next(pickles: IO[bytes]) -> bytes:
    """Returns the next pickle; `genops` stops behind its end."""
    start = pickles.tell()
    for _ in pickletools.genops(pickles):
        pass
    end = pickles.tell()
    pickles.seek(start)
    return pickles.read(end - start)


def _fill(file: IO[bytes], key: str, storage: np.ndarray) -> None:
    count = int.from_bytes(file.read(8), "little")
    data = file.read(storage.nbytes)
    storage.view(np.uint8)[: len(data)] = np.frombuffer(data, np.uint8)
    if count != len(storage) or len(data) != storage.nbytes:
        raise ValueError(
            f"storage {key}: expected {len(storage)} values, got {count} or a cut file"
        )


class _Unpickler(Unpickler):
    """Makes the storages, whose values come behind all pickles.

    Attributes:
      storages: arrays by key, not filled yet.
    """

    def __init__(self, description: bytes, size: int):
        super().__init__(description)
        self._unread = size  # bytes of the file; no two storages share any
        self.storages: dict[str, np.ndarray] = {}

    def persistent_load(self, pid: Any) -> np.ndarray:
        dtype, key, count = check_storage(pid)
        if len(pid) > 5 and pid[5] is not None:
            raise pickle.UnpicklingError("views of storages are not supported")
        if key not in self.storages:
            self._unread -= count * dtype.itemsize
            if self._unread < 0:
                raise ValueError(f"the file is too short for storage {key}")
            self.storages[key] = np.zeros(count, dtype)
        if len(self.storages[key]) != count or self.storages[key].dtype != dtype:
            raise ValueError(f"storage {key} has two sizes or types")
        return self.storages[key]
