"""The device mesh, and which logical axis of an array lies along which of its axes.

Every parameter and activation names its axes ("embed", "mlp", "batch", ...); one
table in the config, `sharding.rules`, maps those names to mesh axes, as in T5X.
"""

import contextlib

import flax.linen as nn
import jax
import numpy as np
import optax
from flax.linen import spmd
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

MESH_AXES = ("data", "fsdp", "model")


def make_mesh(config, devices=None) -> Mesh:
    """Lays the devices out as `config.sharding.mesh` says.

    Args:
      config: `sharding.mesh` maps "data", "fsdp" and "model" to sizes; one of them
        may be -1, "what is left".
      devices: default all of `jax.devices()`.

    Raises:
      ValueError: the sizes do not multiply to the number of devices.
    """
    devices = jax.devices() if devices is None else devices
    wanted = dict(config.sharding.mesh)
    if set(wanted) != set(MESH_AXES):
        raise ValueError(f"config.sharding.mesh={wanted} must name {MESH_AXES}")
    shape = [wanted[axis] for axis in MESH_AXES]
    fixed = int(np.prod([size for size in shape if size != -1]))
    shape = [len(devices) // fixed if size == -1 else size for size in shape]
    if int(np.prod(shape)) != len(devices):
        raise ValueError(
            f"config.sharding.mesh={wanted} makes {int(np.prod(shape))} devices of the "
            f"{len(devices)} there are; set one axis to -1 to take what is left"
        )
    return jax.make_mesh(
        shape, MESH_AXES, axis_types=(AxisType.Auto,) * 3, devices=devices
    )


@contextlib.contextmanager
def use(mesh: Mesh, config):
    """Runs what is inside with this mesh and the config's logical axis rules."""
    rules = tuple((name, _mesh_axes(axes)) for name, axes in config.sharding.rules)
    with jax.set_mesh(mesh), nn.logical_axis_rules(rules):
        yield


def _mesh_axes(axes):
    return tuple(axes) if isinstance(axes, list | tuple) else axes


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Examples lie along data and fsdp together."""
    return NamedSharding(mesh, PartitionSpec(("data", "fsdp")))


def check_batch(config, mesh: Mesh) -> None:
    """Raises ValueError where the batch does not divide among the devices."""
    shards = mesh.shape["data"] * mesh.shape["fsdp"]
    size, steps = config.input.batch_size, config.optimizer.accumulation
    if size % (shards * steps):
        raise ValueError(
            f"config.input.batch_size={size} must divide by {shards * steps}: "
            f"{shards} devices along data and fsdp times "
            f"config.optimizer.accumulation={steps}"
        )


def put_batch(batch, mesh: Mesh):
    """Host arrays, this process's share of the batch -> global device arrays."""
    sharding = batch_sharding(mesh)
    return jax.tree.map(
        lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)),
        batch,
    )


def gather(tree, like):
    """Makes what a function of `like` gave whole on every host, so that each can read
    it.

    Args:
      tree: device arrays.
      like: a tree of arrays on the mesh.
    """
    mesh = jax.tree.leaves(like)[0].sharding.mesh
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def params_sharding(boxed_params, abstract_params, mesh: Mesh):
    """Shardings of parameters from the axis names they were made with.

    Args:
      boxed_params: abstract parameters as `model.init` makes them, with names.
      abstract_params: the same without the names.
      mesh: the mesh; call inside `use`, which brings the rules.
    """
    specs = nn.get_partition_spec(boxed_params)
    shardings = spmd.logical_to_mesh_sharding(specs, mesh)
    return jax.tree.map(
        lambda leaf, sharding: _fit(leaf, sharding, mesh),
        abstract_params,
        shardings,
    )


def _fit(leaf, sharding: NamedSharding, mesh: Mesh) -> NamedSharding:
    """Leaves an axis whole where its length does not divide by its mesh axes.

    Heads narrow down to a channel or two; those are not worth a rule of their own.
    """
    spec = []
    for size, axes in zip(leaf.shape, tuple(sharding.spec), strict=False):
        names = axes if isinstance(axes, tuple) else (axes,) if axes else ()
        shards = int(np.prod([mesh.shape[name] for name in names]))
        spec.append(axes if size % shards == 0 else None)
    return NamedSharding(mesh, PartitionSpec(*spec))


def optimizer_sharding(optimizer, abstract_state, abstract_params, shardings, mesh):
    """Moments lie as their parameters do; counters and factored ones are whole."""
    whole = NamedSharding(mesh, PartitionSpec())
    nowhere = Mesh(np.empty((), object), ())
    with jax.set_mesh(nowhere):  # optax makes counters, and the mesh may not be here
        return optax.tree_utils.tree_map_params(
            optimizer,
            lambda leaf, param, placed: placed if leaf.shape == param.shape else whole,
            abstract_state,
            abstract_params,
            shardings,
            transform_non_params=lambda _: whole,
        )
