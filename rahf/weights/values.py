"""What the arrays of a checkpoint are checked for: how many values, of which kind.

A small file can describe arrays of any size, and bytes can be cut or altered. Sizes are
checked before there is memory for them, values before they are compared or loaded.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np

FLOATS = ("float16", "bfloat16", "float32", "float64")

#: How many values a checkpoint may have for each of the model's: it may have another
#: vocabulary, or be a size too large, and is then told what does not fit.
_MOST = 8
#: What is read for any model, however small: 256 MB in float32.
_ALWAYS = 1 << 26
_MOST_LAYERS = 1000


def check_count(
    source: str,
    shapes: Mapping[str, Sequence[int]],
    wanted: Mapping[str, Sequence[int]] | None,
) -> None:
    """Refuses arrays that are far larger than the model, before they are read.

    Args:
      source: where they are from, for the error.
      shapes: of the arrays by name, as the file describes them.
      wanted: shapes of the model's parameters; None where there is no model yet, and
        nothing is refused for its size.

    Raises:
      ValueError: one has no values, or they have too many; it names the largest.
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
            f"{source} describes {sum(counts.values()):,} values, and the model has "
            f"{ours:,}: {name} has shape {list(shapes[name])}; it is damaged, or of "
            "another size of model (see config.model)"
        )


def check_dtype(source: str, name: str, dtype: np.dtype) -> None:
    """Raises ValueError where values are not floating point."""
    if dtype.name not in FLOATS:
        raise ValueError(
            f"{source}: {name} is of {dtype}, expected floating point (a quantised "
            "model cannot be read)"
        )


def check_finite(source: str, name: str, value: np.ndarray) -> None:
    """Raises ValueError where a floating point array holds NaN or infinite values."""
    if not np.isfinite(value).all():
        raise ValueError(f"{source}: {name} holds NaN or infinite values")


def count_layers(source: str, name: str, value: np.ndarray, axis: int) -> int:
    """How many layers an array has stacked on an axis.

    Raises:
      ValueError: it has no such axis, or more layers than any model.
    """
    count = value.shape[axis] if value.ndim > axis else 0
    if not 0 < count <= _MOST_LAYERS:
        raise ValueError(
            f"{source}: {name} has shape {list(value.shape)}; expected 1 to "
            f"{_MOST_LAYERS} layers on axis {axis}"
        )
    return count
