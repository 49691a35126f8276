"""Reads the state dict in a `.pt` file of PyTorch: no PyTorch, no code executed.

Such a file is a zip archive: `data.pkl` is a pickle that describes the tensors, and one
file each holds their bytes. A pickle can call anything it names; this reader lets it
name the few things that a state dict is made of, and refuses the file otherwise.
"""

import collections
import os
import pickle
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
#: Where training scripts put a state dict among other things.
_KEYS = ("state_dict", "model", "model_state_dict", "module")


def read(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Reads the arrays of a state dict.

    Args:
      path: what `torch.save` wrote (1.6 or later): a state dict, or a dict that
        has one under "state_dict" or "model".

    Returns:
      Arrays by name, in the file's order and dtype; a leading "module." of
      DistributedDataParallel is cut off.

    Raises:
      ValueError: it is damaged, of the format before 1.6, or names something that no
        state dict is made of.
    """
    where = os.fspath(path)
    if not os.path.isfile(path):
        raise ValueError(f"{where}: there is no such file")
    try:
        with zipfile.ZipFile(path) as archive:
            found = _unpickle(archive)
    except zipfile.BadZipFile as error:
        raise ValueError(
            f"{where} ({os.path.getsize(path)} bytes) is not a .pt file that torch.save "
            f"of PyTorch 1.6 or later wrote ({error}); an older one, a git-lfs pointer "
            f"or a cut download?"
        ) from error
    except _FORMAT_ERRORS as error:
        raise ValueError(f"{where} is damaged or no state dict: {error}") from error
    for _ in range(2):
        inner = [found[k] for k in _KEYS if isinstance(found.get(k), dict)]
        found = inner[0] if inner else found
    arrays = {k: v for k, v in found.items() if isinstance(v, np.ndarray)}
    if not arrays:
        keys = ", ".join(map(str, list(found)[:6]))
        raise ValueError(f"{where} holds no tensors; its keys are {keys or 'none'}")
    return {str(name).removeprefix("module."): x for name, x in arrays.items()}


# What pickle and zipfile raise at bytes that are not what they should be.
_FORMAT_ERRORS = (
    *(pickle.UnpicklingError, EOFError, KeyError, IndexError, TypeError),
    *(ValueError, AttributeError, NotImplementedError, OverflowError, RuntimeError),
    zlib.error,
)


def _unpickle(archive: zipfile.ZipFile) -> Mapping[Any, Any]:
    names = archive.namelist()
    [description] = [name for name in names if name.endswith("/data.pkl")] or [""]
    if not description:
        raise ValueError(f"expected a data.pkl in it, got {', '.join(names[:4])}")
    root = description.removesuffix("data.pkl")
    order = "little"
    if f"{root}byteorder" in names:
        order = archive.read(f"{root}byteorder").decode().strip()
    with archive.open(description) as file:
        found = _Unpickler(file, archive, root, order).load()
    if not isinstance(found, Mapping):
        raise ValueError(f"expected a dict, got {type(found).__name__}")  # noqa: TRY004
    return found


class _Call:
    """A function for one pickle: were it the module's own, a pickle could change it."""

    __slots__ = ("_function",)

    def __init__(self, function):
        self._function = function

    def __call__(self, *args: Any) -> Any:
        return self._function(*args)


class _Unpickler(pickle.Unpickler):
    """Builds dicts, lists and arrays; whatever else a pickle names is refused."""

    def __init__(self, file, archive: zipfile.ZipFile, root: str, order: str):
        super().__init__(file, encoding="utf-8")
        self._archive, self._root, self._order = archive, root, order
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
            f"it names {module}.{name}, which no state dict needs and which loading "
            "it in PyTorch would run; save model.state_dict() alone"
        )

    def persistent_load(self, pid: Any) -> np.ndarray:
        """Returns a storage as an array of one axis."""
        kind, dtype, key, _, count = pid
        if kind != "storage" or not isinstance(dtype, np.dtype):
            raise pickle.UnpicklingError(f"unknown reference {pid!r}")
        if key not in self._storages:
            info = self._archive.getinfo(f"{self._root}data/{key}")
            # Before reading: a small zip may unpack to any size.
            if info.file_size != count * dtype.itemsize:
                raise ValueError(
                    f"expected {count} values of {dtype} in {info.filename}, got "
                    f"{info.file_size} bytes"
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
    """Lays an array over a storage; steps are counted in values."""
    if not isinstance(storage, np.ndarray) or len(shape) != len(strides):
        raise ValueError(f"a tensor of {type(storage).__name__}, {shape}, {strides}")
    last = offset + sum(
        (size - 1) * stride for size, stride in zip(shape, strides, strict=True)
    )
    inside = last < len(storage) and min((offset, *shape, *strides)) >= 0
    if not inside and 0 not in shape:
        raise ValueError(
            f"a tensor {list(shape)} reaches over its {len(storage)} values"
        )
    if 0 in shape:
        return np.zeros(shape, storage.dtype)
    size = storage.dtype.itemsize
    return np.lib.stride_tricks.as_strided(
        storage[offset:], shape, [size * stride for stride in strides], writeable=False
    )


def _rebuild_parameter(data: np.ndarray, *_: Any) -> np.ndarray:
    return data
