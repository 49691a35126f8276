"""The train step of a config as a jaxpr, for any number of examples; nothing is run."""

import copy
import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from rahf.benchmarks import counting
from rahf.benchmarks.liveness import Split
from rahf.models import sharding
from rahf.models.batch import example_batch
from rahf.training import steps
from rahf.training.stacks import join_shapes


def trace_step(
    config, devices: Sequence[Any], *, joined: bool = False
) -> tuple[Any, Any, Any, Any]:
    """Returns the traced train step, its mesh, state and batch; nothing is computed.

    Args:
      config: the training config.
      devices: the devices of the mesh, which need not be there.
      joined: whether scanned layers are joined, as in training; for the compiler. To
        who counts operations, the arrays of a layer say more.
    """
    mesh = sharding.make_mesh(config, devices)
    sharding.check_batch(config, mesh)
    with sharding.use(mesh, config):
        state, shardings = steps.make_state(config, mesh, abstract=True)
        placed = sharding.batch_sharding(mesh)
        batch = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=placed),
            jax.eval_shape(lambda: example_batch(config, config.input.batch_size)),
        )
        stacks = steps.make_stacks(config, mesh) if joined else None
        step = steps.make_train_step(config, mesh, shardings, stacks)
        state = steps.join(state, stacks, join_shapes)
        return step.trace(state, batch), mesh, state, batch


@dataclasses.dataclass(frozen=True)
class Step:
    """A traced step.

    Attributes:
      jaxpr: (state, batch) -> (state, metrics).
      state: the abstract `TrainState`, whose shardings name the mesh axes.
      batch: the abstract batch.
    """

    jaxpr: Any
    state: Any
    batch: Any

    def count(self, axes: Mapping[str, int]) -> counting.OperationCounts:
        """Counts the step on a device of a mesh of these sizes."""
        splits = [split_of(leaf) for leaf in jax.tree.leaves(self.state)]
        given = splits + [{}] * len(jax.tree.leaves(self.batch))
        others = len(self.jaxpr.out_avals) - len(splits)
        return counting.count(self.jaxpr, axes, given, [*splits, *[None] * others])


class Traces:
    """Steps of one config with other batch sizes and remat, each traced once.

    They are traced on one device: which mesh it is does not matter to the operations.
    """

    def __init__(self, config):
        self._config, self._steps = config, {}

    def step(self, batch_size: int, remat: str) -> Step:
        """Returns the step on `batch_size` examples, with remat as in `remat_of`.

        Raises:
          ValueError: a value of the config is not among the options.
        """
        key = batch_size, remat
        if key not in self._steps:
            config = copy.deepcopy(self._config)
            config.input.batch_size = batch_size
            with config.unlocked():
                config.model.remat = bool(remat)
                config.model.remat_policy = remat or "full"
            config.sharding.mesh.update(data=1, fsdp=1, model=1)
            traced, _, state, batch = trace_step(config, jax.local_devices()[:1])
            self._steps[key] = Step(traced.jaxpr, state, batch)
        return self._steps[key]


def remat_of(config) -> str:
    """Returns the policy of `rahf.models.remat`; "" if nothing is computed again."""
    m = config.model
    return m.get("remat_policy", "full") if m.remat else ""


def split_of(leaf) -> Split:
    """Returns mesh axis -> the dimension of a parameter that it splits."""
    found = {}
    for dimension, axes in enumerate(leaf.sharding.spec):
        for axis in axes if isinstance(axes, tuple) else (axes,):
            if axis is not None:
                found[axis] = dimension
    return found


def device_bytes(tree, axes: Mapping[str, int]) -> float:
    """Returns the bytes that one device of a mesh has of some arrays.

    A dimension that a mesh axis does not divide stays whole, as in
    `rahf.models.sharding`.
    """
    total = 0.0
    for leaf in jax.tree.leaves(tree):
        parts = [
            axes.get(axis, 1)
            for axis, dimension in split_of(leaf).items()
            if leaf.shape[dimension] % axes.get(axis, 1) == 0
        ]
        total += leaf.size * leaf.dtype.itemsize / math.prod(parts)
    return total
