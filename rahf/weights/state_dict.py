"""Reads the state dict in a PyTorch `.pt` file, without PyTorch or executing code.

Such a file is a zip archive: `data.pkl` is a pickle that describes the tensors, and a
file per storage holds their bytes. A pickle can call anything it names; this reader
allows only the few names that a state dict needs, and refuses any other file.
"""

import collections
import io
import math
import os
import pickle
import pickletools
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import ml_dtypes
import numpy as np

_DTYPES = {
    "FloatStorage": np.float32,
    "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16,
    "DoubleStorage": np.float64,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}
#: Keys under which training scripts store a state dict.
_KEYS = ("state_dict", "model", "model_state_dict", "module")
#: Largest size of the pickle in bytes: about 25,000 tensors.
_LONGEST_DESCRIPTION = 8 << 20
_PUTS = ("PUT", "BINPUT", "LONG_BINPUT")


def read(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Reads the arrays of a state dict.

    Args:
      path: a file from `torch.save` (1.6 or later): a state dict, or a dict that has
        one under "state_dict" or "model".

    Returns:
      Arrays by name, in the file's order and dtype, without the prefix "module." of
      DistributedDataParallel.

    Raises:
      ValueError: it is damaged, in the format before 1.6, or names something that no
        state dict needs.
    """
    where = os.fspath(path)
    if not os.path.isfile(path):
        raise ValueError(f"{where} does not exist or is not a file")
    try:
        with zipfile.ZipFile(path) as archive:
            found = _unpickle(archive, os.path.getsize(path))
    except zipfile.BadZipFile as error:
        raise ValueError(
            f"{where} ({os.path.getsize(path)} bytes) is not a .pt file written by "
            f"torch.save of PyTorch 1.6 or later ({error}); is it older or a git-lfs "
            f"pointer, or was a download interrupted?"
        ) from error
    except OSError as error:
        raise ValueError(f"{where} cannot be read: {error.strerror}") from error
    except _FORMAT_ERRORS as error:
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


# What pickle and zipfile raise for malformed data.
_FORMAT_ERRORS = (
    *(pickle.UnpicklingError, EOFError, KeyError, IndexError, TypeError),
    *(ValueError, AttributeError, NotImplementedError, OverflowError, RuntimeError),
    zlib.error,
)


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
    _check_description(description)
    found = _Unpickler(description, archive, root, order, size).load()
    if not isinstance(found, Mapping):
        raise ValueError(f"expected a dict, got {type(found).__name__}")  # noqa: TRY004
    return found


def _read_member(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    size = archive.getinfo(name).file_size
    if size > most:
        raise ValueError(f"{name} has {size:,} bytes, expected at most {most:,}")
    return archive.read(name)


def _check_description(description: bytes) -> None:
    """Refuses a pickle that requests more memory than its size justifies.

    Unpickling allocates what an opcode announces before checking that it exists: the
    length of a string, or an index in the memo table.
    """
    for opcode, argument, _ in pickletools.genops(description):  # checks the lengths
        if opcode.name in _PUTS and int(argument or 0) > len(description):
            raise ValueError(f"data.pkl refers to object {argument}, which it lacks")


class _Call:
    """Wraps a function for one pickle, which could modify the module's own."""

    __slots__ = ("_function",)

    def __init__(self, function):
        self._function = function

    def __call__(self, *args: Any) -> Any:
        return self._function(*args)


class _Unpickler(pickle.Unpickler):
    """Builds dicts, lists and arrays; refuses anything else that a pickle names."""

    def __init__(
        self,
        description: bytes,
        archive: zipfile.ZipFile,
        root: str,
        order: str,
        size: int,
    ):
        super().__init__(io.BytesIO(description), encoding="utf-8")
        self._archive, self._root, self._order = archive, root, order
        self._unread = size  # bytes of the file; no two storages share any
        self._storages: dict[str, np.ndarray] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _Call(_rebuild_tensor)
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return _Call(_rebuild_parameter)
        if module == "torch" and name in _DTYPES:
            return np.dtype(_DTYPES[name])
        raise pickle.UnpicklingError(
            f"it names {module}.{name}, which no state dict needs and which PyTorch "
            "would run on loading; save only model.state_dict()"
        )

    def persistent_load(self, pid: Any) -> np.ndarray:
        """Returns a storage as a one-dimensional array."""
        kind, dtype, key, _, count = pid
        types = (type(kind), type(key), type(count))
        if (
            types != (str, str, int)
            or kind != "storage"
            or not isinstance(dtype, np.dtype)
        ):
            raise pickle.UnpicklingError(
                "a reference is not to a known kind of storage"
            )
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


def _rebuild_tensor(
    storage: np.ndarray,
    offset: int,
    shape: Sequence[int],
    strides: Sequence[int],
    *_: Any,
) -> np.ndarray:
    """Returns an array view of a storage; offset and strides count values."""
    numbers = (offset, *shape, *strides)
    if (
        not isinstance(storage, np.ndarray)
        or len(shape) != len(strides)
        or not all(isinstance(number, int) for number in numbers)
    ):
        raise ValueError("a tensor has no storage, or its shape and strides disagree")
    last = offset + sum(
        (size - 1) * stride for size, stride in zip(shape, strides, strict=True)
    )
    # A stride of 0 would repeat a value any number of times; parameters never do.
    count = math.prod(shape)
    inside = max(last + 1, count) <= len(storage) and min(numbers) >= 0
    if not inside and 0 not in shape:
        raise ValueError(
            f"a tensor of shape {list(shape)} exceeds its {len(storage)} values"
        )
    if 0 in shape:
        return np.zeros(shape, storage.dtype)
    size = storage.dtype.itemsize
    return np.lib.stride_tricks.as_strided(
        storage[offset:], shape, [size * stride for stride in strides], writeable=False
    )


def _rebuild_parameter(data: np.ndarray, *_: Any) -> np.ndarray:
    return data
