"""Names for the axes of parameters and activations.

The names mean nothing here; `config.sharding.rules` maps them to the axes of the
device mesh (rahf.models.sharding).
"""

from typing import Any

from flax.linen import spmd


def named(initializer, *axes: str | None) -> Any:
    """An initializer whose parameter remembers the logical names of its axes."""
    return spmd.with_logical_partitioning(initializer, axes)


def constrain(x, *axes: str):
    """Asks for `x` to lie as its axes' rules say; outside a mesh nothing happens."""
    return spmd.with_logical_constraint(x, axes)
