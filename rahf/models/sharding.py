"""The device mesh, and how logical axes map to it.

Every parameter and activation names its axes ("embed", "mlp", "batch", ...); one table
in the config, `sharding.rules`, maps the names to mesh axes, as in T5X.
"""

import contextlib

import flax.linen as nn
import jax
import numpy as np
import optax
from flax.linen import spmd
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from rahf.models.batch import rows_together

MESH_AXES = ("data", "fsdp", "model")


def make_mesh(config, devices=None) -> Mesh:
    """Returns the devices arranged as `config.sharding.mesh` says.

    Args:
      config: `sharding.mesh` maps "data", "fsdp" and "model" to sizes; one of them may
        be -1, for all remaining devices.
      devices: the devices; `jax.devices()` by default.

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
            f"config.sharding.mesh={wanted} uses {int(np.prod(shape))} devices of "
            f"{len(devices)}; set one axis to -1 to use all that remain"
        )
    return jax.make_mesh(
        shape, MESH_AXES, axis_types=(AxisType.Auto,) * 3, devices=devices
    )


@contextlib.contextmanager
def use(mesh: Mesh, config):
    """A context with this mesh and the config's logical axis rules."""
    rules = tuple((name, _mesh_axes(axes)) for name, axes in config.sharding.rules)
    with jax.set_mesh(mesh), nn.logical_axis_rules(rules):
        yield


def _mesh_axes(axes):
    return tuple(axes) if isinstance(axes, list | tuple) else axes


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of a batch: examples along data and fsdp together."""
    return NamedSharding(mesh, PartitionSpec(("data", "fsdp")))


def check_batch(config, mesh: Mesh) -> None:
    """Raises ValueError if the batch does not divide evenly among the devices."""
    shards = mesh.shape["data"] * mesh.shape["fsdp"]
    size, steps = config.input.batch_size, config.optimizer.accumulation
    if size % (rows_together(config.task.targets) * steps):
        raise ValueError(
            f"config.input.batch_size={size} must be a multiple of {2 * steps}: pairs of "
            f"two rows times config.optimizer.accumulation={steps}"
        )
    if size % (shards * steps):
        raise ValueError(
            f"config.input.batch_size={size} must be a multiple of {shards * steps}: "
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
    """Replicates arrays over the mesh, so that every host can read them.

    Args:
      tree: device arrays, computed from `like`.
      like: a tree of arrays on the mesh.
    """
    mesh = jax.tree.leaves(like)[0].sharding.mesh
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def params_sharding(boxed_params, abstract_params, mesh: Mesh):
    """Returns the shardings of parameters, from the names of their axes.

    Args:
      boxed_params: abstract parameters from `model.init`, with names.
      abstract_params: the same without the names.
      mesh: the mesh; call inside `use`, which sets the rules.
    """
    specs = nn.get_partition_spec(boxed_params)
    shardings = spmd.logical_to_mesh_sharding(specs, mesh)
    return jax.tree.map(
        lambda leaf, sharding: _fit(leaf, sharding, mesh),
        abstract_params,
        shardings,
    )


def _fit(leaf, sharding: NamedSharding, mesh: Mesh) -> NamedSharding:
    """Leaves an axis unsharded if its mesh axes do not divide its length.

    Heads narrow down to a channel or two, which are not worth a rule of their own.
    """
    spec = []
    for size, axes in zip(leaf.shape, tuple(sharding.spec), strict=False):
        names = axes if isinstance(axes, tuple) else (axes,) if axes else ()
        shards = int(np.prod([mesh.shape[name] for name in names]))
        spec.append(axes if size % shards == 0 else None)
    return NamedSharding(mesh, PartitionSpec(*spec))


def optimizer_sharding(optimizer, abstract_state, abstract_params, shardings, mesh):
    """Returns shardings of the optimizer's state: moments are sharded as their
    parameters are, counters and factored moments are replicated."""
    whole = NamedSharding(mesh, PartitionSpec())

    def place(leaf, param, sharding):
        if is_masked(leaf):
            return leaf
        return sharding if leaf.shape == param.shape else whole

    with nowhere():
        return optax.tree_utils.tree_map_params(
            optimizer,
            place,
            abstract_state,
            abstract_params,
            shardings,
            transform_non_params=lambda _: whole,
            is_leaf=is_masked,
        )


def is_masked(leaf) -> bool:
    """Whether a leaf of an optimizer's state stands for an array that another part of
    the optimizer looks after."""
    return isinstance(leaf, optax.MaskedNode)


def nowhere():
    """A context without a mesh, for optax, which makes counters while it maps a state:
    the mesh may be of chips that are not there."""
    return jax.set_mesh(Mesh(np.empty((), object), ()))
