"""Checks on a checkpoint's arrays: the number and kind of their values.

A small file can describe arrays of any size, and bytes can be missing or altered. Sizes
are checked before memory is allocated, values before they are compared or loaded.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np

FLOATS = ("float16", "bfloat16", "float32", "float64")

#: How many values a checkpoint may have per value of the model. It may have another
#: vocabulary or be a size larger, which gets an error about what does not fit.
_MOST = 8
#: The number of values that is always read, for any model: 256 MB in float32.
_ALWAYS = 1 << 26
_MOST_LAYERS = 1000


def check_count(
    source: str,
    shapes: Mapping[str, Sequence[int]],
    wanted: Mapping[str, Sequence[int]] | None,
) -> None:
    """Refuses arrays that are far larger than the model, before they are read.

    Args:
      source: the arrays' origin, for the error.
      shapes: the shapes of the arrays by name, as the file describes them.
      wanted: shapes of the model's parameters; None, if there is no model yet, skips
        the check of size.

    Raises:
      ValueError: an array has no values, or all have too many (names the largest).
    """
    counts = {name: math.prod(map(int, shape)) for name, shape in shapes.items()}
    if empty := [name for name, count in counts.items() if count < 1]:
        raise ValueError(
            f"{source}: {empty[0]} has shape {list(shapes[empty[0]])}, which holds no "
            "values"
        )
    if wanted is None or not counts:
        return
    ours = sum(math.prod(shape) for shape in wanted.values())
    if sum(counts.values()) > max(_MOST * ours, _ALWAYS):
        name = max(counts, key=lambda name: counts[name])
        raise ValueError(
            f"{source} describes {sum(counts.values()):,} values, but the model has "
            f"{ours:,}: {name} has shape {list(shapes[name])}; it is damaged, or for a "
            "model of another size (see config.model)"
        )


def check_dtype(source: str, name: str, dtype: np.dtype) -> None:
    """Raises ValueError if values are not floating point."""
    if dtype.name not in FLOATS:
        raise ValueError(
            f"{source}: {name} has dtype {dtype}, expected floating point (quantised "
            "models are not supported)"
        )


def check_finite(source: str, name: str, value: np.ndarray) -> None:
    """Raises ValueError if a floating-point array holds NaN or infinite values."""
    if not np.isfinite(value).all():
        raise ValueError(f"{source}: {name} holds NaN or infinite values")


def count_layers(source: str, name: str, value: np.ndarray, axis: int) -> int:
    """Returns the number of layers that are stacked along an axis of an array.

    Raises:
      ValueError: the axis does not exist, or is longer than any model is deep.
    """
    count = value.shape[axis] if value.ndim > axis else 0
    if not 0 < count <= _MOST_LAYERS:
        raise ValueError(
            f"{source}: {name} has shape {list(value.shape)}; expected 1 to "
            f"{_MOST_LAYERS} layers on axis {axis}"
        )
    return count
