"""Compiles the train step for devices that need not be present, and says what it costs.

XLA's TPU compiler comes with `pip install "rahf[tpu]"` and needs no TPU. It shows what
fits, how arrays are sharded and what chips exchange, before you book a slice.
"""

import dataclasses
import math
import os
from collections.abc import Sequence
from typing import Any

import jax
from jax.experimental import topologies

from rahf.benchmarks import loops
from rahf.models import sharding
from rahf.models.batch import example_batch
from rahf.training import steps


@dataclasses.dataclass(frozen=True)
class Costs:
    """What one step costs each device.

    Attributes:
      mesh: axis -> number of devices along it.
      parameters: number of parameters of the whole model.
      state_bytes: size of parameters and optimizer; donated, so held once.
      batch_bytes: size of the device's examples.
      temporary_bytes: peak size of activations and gradients.
      flops: floating-point operations, as XLA counts them in the compiled step, plus
        this device's share of what loops repeat.
      collectives: name -> how many the step runs, counting every loop trip.
    """

    mesh: dict[str, int]
    parameters: int
    state_bytes: int
    batch_bytes: int
    temporary_bytes: int
    flops: float
    collectives: dict[str, int]


def tpu_devices(topology: str) -> list[Any]:
    """Returns the chips of a TPU slice, to compile for.

    Args:
      topology: the generation and shape, such as "v5e:4x8" or "v4:4x4x4".

    Raises:
      ValueError: libtpu is not installed, or does not know the slice.
    """
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # it answers on TPU hosts only
    # With this option, the two cores of a v4 chip are one device to JAX.
    options = {"chip_config_name": "megacore"} if topology.startswith("v4:") else {}
    try:
        slice_ = topologies.get_topology_desc(
            platform="tpu", topology_name=topology, **options
        )
    except Exception as error:  # the type depends on the version of JAX
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"--topology={topology}: {reason}; expected a slice such as v5e:4x8 or "
            'v4:4x4x4, and libtpu: pip install "rahf[tpu]"'
        ) from error
    return list(slice_.devices)


def trace_step(config, devices: Sequence[Any]) -> tuple[Any, Any, Any, Any]:
    """Returns the traced train step, its mesh, state and batch; nothing is computed."""
    mesh = sharding.make_mesh(config, devices)
    sharding.check_batch(config, mesh)
    with sharding.use(mesh, config):
        state, shardings = steps.make_state(config, mesh, abstract=True)
        placed = sharding.batch_sharding(mesh)
        batch = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=placed),
            jax.eval_shape(lambda: example_batch(config, config.input.batch_size)),
        )
        step = steps.make_train_step(config, mesh, shardings)
        return step.trace(state, batch), mesh, state, batch


def compile_step(config, devices: Sequence[Any]) -> Costs:
    """Compiles the train step of a config for some devices.

    Raises:
      ValueError: the mesh or the batch does not fit the devices.
    """
    traced, mesh, state, batch = trace_step(config, devices)
    compiled = traced.lower().compile()
    with sharding.use(mesh, config):
        repeated = loops.repeated_flops(traced.jaxpr) / len(devices)
    return Costs(
        mesh=dict(mesh.shape),
        parameters=sum(leaf.size for leaf in jax.tree.leaves(state.params)),
        state_bytes=_bytes_a_device(state),
        batch_bytes=_bytes_a_device(batch),
        temporary_bytes=compiled.memory_analysis().temp_size_in_bytes,
        flops=float(compiled.cost_analysis()["flops"]) + repeated,
        collectives=loops.count_collectives(compiled.as_text()),
    )


def _bytes_a_device(tree) -> int:
    return sum(
        leaf.dtype.itemsize * math.prod(shape)
        for leaf in jax.tree.leaves(tree)
        for shape in [leaf.sharding.shard_shape(leaf.shape)]
    )
