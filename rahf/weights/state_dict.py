"""Reads the state dict in a PyTorch `.pt` file, without PyTorch or executing code.

Such a file is a zip archive: `data.pkl` is a pickle that describes the tensors, and a
file per storage holds their bytes; before PyTorch 1.6, it was five pickles and the bytes
(`legacy_state_dict`). Files that name anything but tensors are refused, apart from the
modules of TorchScript archives, of which the tensors alone are read (`torchscript`).
"""

import os
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from rahf.weights import legacy_state_dict, torchscript
from rahf.weights.unpickling import FORMAT_ERRORS, Unpickler, check_storage

#: Keys under which training scripts store a state dict.
_KEYS = ("state_dict", "model", "model_state_dict", "module")
#: Largest size of the pickle in bytes: about 25,000 tensors.
_LONGEST_DESCRIPTION = 8 << 20


def read(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Reads the arrays of a state dict.

    Args:
      path: a file from `torch.save`: a state dict, or a dict that has one under
        "state_dict" or "model"; or one from `torch.jit.save`.

    Returns:
      Arrays by name, in the file's order and dtype, without the prefix "module." of
      DistributedDataParallel.

    Raises:
      ValueError: it is damaged, or names something that no state dict needs.
    """
    where = os.fspath(path)
    if not os.path.isfile(path):
        raise ValueError(f"{where} does not exist or is not a file")
    try:
        if legacy_state_dict.is_legacy(path):
            found = legacy_state_dict.read(path)
        else:
            with zipfile.ZipFile(path) as archive:
                found = _unpickle(archive, os.path.getsize(path))
    except zipfile.BadZipFile as error:
        raise ValueError(
            f"{where} ({os.path.getsize(path)} bytes) is not a .pt file written by "
            f"torch.save ({error}); is it a git-lfs pointer, or was a download "
            "interrupted?"
        ) from error
    except OSError as error:
        raise ValueError(f"{where} cannot be read: {error.strerror}") from error
    except FORMAT_ERRORS as error:
        raise ValueError(f"{where} is damaged or not a state dict: {error}") from error
    for _ in range(2):
        inner = [found[k] for k in _KEYS if isinstance(found.get(k), dict)]
        found = inner[0] if inner else found
    arrays = {k: v for k, v in found.items() if isinstance(v, np.ndarray)}
    if not arrays:
        # Strings only: the text of a tuple may be of any length.
        keys = ", ".join(key[:40] for key in list(found)[:6] if isinstance(key, str))
        raise ValueError(f"{where} holds no tensors; its keys are {keys or 'none'}")
    named: dict[str, np.ndarray] = {}
    for key, array in arrays.items():
        if not isinstance(key, str):
            kind = type(key).__name__
            raise ValueError(  # noqa: TRY004
                f"{where}: expected strings as names of tensors, got {kind}"
            )
        if key.removeprefix("module.") in named:
            raise ValueError(f"{where}: {key} appears twice, once without 'module.'")
        named[key.removeprefix("module.")] = array
    return named


def is_scripted(path: str | os.PathLike) -> bool:
    """Returns whether a file is a TorchScript archive; False if it is no archive."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return torchscript.is_scripted(archive)


def _unpickle(archive: zipfile.ZipFile, size: int) -> Mapping[Any, Any]:
    names = archive.namelist()
    descriptions = [name for name in names if name.endswith("/data.pkl")]
    if len(descriptions) != 1:
        raise ValueError(f"expected one data.pkl, got {', '.join(names[:4])}")
    root = descriptions[0].removesuffix("data.pkl")
    order = "little"
    if f"{root}byteorder" in names:
        order = _read_member(archive, f"{root}byteorder", 16).decode().strip()
    description = _read_member(archive, descriptions[0], _LONGEST_DESCRIPTION)
    found = _Unpickler(description, archive, root, order, size).load()
    if torchscript.is_scripted(archive):
        return torchscript.list_tensors(found)
    if not isinstance(found, Mapping):
        raise ValueError(f"expected a dict, got {type(found).__name__}")  # noqa: TRY004
    return found


def _read_member(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    size = archive.getinfo(name).file_size
    if size > most:
        raise ValueError(f"{name} has {size:,} bytes, expected at most {most:,}")
    return archive.read(name)


class _Unpickler(Unpickler):
    """Takes storages from the archive."""

    def __init__(
        self,
        description: bytes,
        archive: zipfile.ZipFile,
        root: str,
        order: str,
        size: int,
    ):
        super().__init__(description)
        self._archive, self._root, self._order = archive, root, order
        self._unread = size  # bytes of the file; no two storages share any
        self._storages: dict[str, np.ndarray] = {}
        self._scripted = torchscript.is_scripted(archive)

    def find_class(self, module: str, name: str) -> Any:
        found = torchscript.find_class(module, name) if self._scripted else None
        return found or super().find_class(module, name)

    def persistent_load(self, pid: Any) -> np.ndarray:
        """Returns a storage as a one-dimensional array."""
        dtype, key, count = check_storage(pid)
        if key not in self._storages:
            info = self._archive.getinfo(f"{self._root}data/{key}")
            # Before reading: a small zip may unpack to any size.
            if info.file_size != count * dtype.itemsize:
                raise ValueError(
                    f"expected {count} values of {dtype} in {info.filename}, got "
                    f"{info.file_size} bytes"
                )
            self._unread -= info.file_size
            if info.compress_type != zipfile.ZIP_STORED or self._unread < 0:
                raise ValueError(
                    f"{info.filename} is compressed or overlaps another storage, which "
                    "PyTorch never writes"
                )
            data = np.frombuffer(self._archive.read(info), dtype)
            swapped = self._order == "big" and dtype.itemsize > 1
            self._storages[key] = data.byteswap() if swapped else data
        return self._storages[key]
