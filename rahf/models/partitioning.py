"""Names for the axes of parameters and activations.

The names mean nothing here; `config.sharding.rules` maps them to the axes of the
device mesh (rahf.models.sharding).
"""

from typing import Any

from flax.linen import spmd


def named(initializer, *axes: str | None) -> Any:
    """Returns an initializer whose parameter records the logical names of its axes."""
    return spmd.with_logical_partitioning(initializer, axes)


def constrain(x, *axes: str):
    """Shards `x` by the rules of its axes; does nothing outside a mesh."""
    return spmd.with_logical_constraint(x, axes)
