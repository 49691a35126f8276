"""Unpickles what PyTorch writes about tensors, and nothing else.

A pickle can call anything it names; this reader allows only the few names that a state
dict needs.
"""

import collections
import io
import math
import pickle
import pickletools
import zlib
from collections.abc import Sequence
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
_PUTS = ("PUT", "BINPUT", "LONG_BINPUT")

# What pickle and zipfile raise for malformed data.
FORMAT_ERRORS = (
    *(pickle.UnpicklingError, EOFError, KeyError, IndexError, TypeError),
    *(ValueError, AttributeError, NotImplementedError, OverflowError, RuntimeError),
    zlib.error,
)


def check_description(description: bytes) -> None:
    """Refuses a pickle that requests more memory than its size justifies.

    Unpickling allocates what an opcode announces before checking that it exists: the
    length of a string, or an index in the memo table.
    """
    for opcode, argument, _ in pickletools.genops(description):  # checks the lengths
        if opcode.name in _PUTS and int(argument or 0) > len(description):
            raise ValueError(f"the pickle refers to object {argument}, which it lacks")


class _Call:
    """Wraps a function for one pickle, which could modify the module's own."""

    __slots__ = ("_function",)

    def __init__(self, function):
        self._function = function

    def __call__(self, *args: Any) -> Any:
        return self._function(*args)


class Unpickler(pickle.Unpickler):
    """Builds dicts, lists and arrays; refuses anything else that a pickle names.

    `persistent_load` is the subclass's: it returns a storage as a one-dimensional array.
    """

    def __init__(self, description: bytes):
        check_description(description)
        super().__init__(io.BytesIO(description), encoding="utf-8")

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


def check_storage(pid: Any) -> tuple[np.dtype, str, int]:
    """Returns dtype, key and number of values that a persistent id names.

    Raises:
      pickle.UnpicklingError: it is no id of a storage.
    """
    if not isinstance(pid, tuple) or len(pid) < 5:
        raise pickle.UnpicklingError("a reference is not to a known kind of storage")
    kind, dtype, key, _, count = pid[:5]
    types = (type(kind), type(key), type(count))
    if (
        types != (str, str, int)
        or kind != "storage"
        or not isinstance(dtype, np.dtype)
        or count < 0
    ):
        raise pickle.UnpicklingError("a reference is not to a known kind of storage")
    return dtype, key, count
