"""The jitted functions of training: initialising the state and taking a step."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct

from rahf.models import batch_norm, sharding
from rahf.models.batch import rows_together
from rahf.training import kept_steps
from rahf.training.feedback import make_learner
from rahf.training.kept_steps import Kept
from rahf.training.optimizer import (
    make_optimizer,
    make_parts,
    make_schedule,
    scale_updates,
)
from rahf.training.stacks import (
    Join,
    Split,
    Stacks,
    join_on_devices,
    join_sharding,
    split_on_devices,
)
from rahf.weights import matching


@struct.dataclass
class TrainState:
    """What a step changes and a checkpoint stores.

    Random keys are derived from `config.seed` and `step`, so they need not be stored,
    and a resumed run draws the same numbers.
    """

    step: Any  # int32[]
    params: Any
    opt_state: Any


def make_state(
    config, mesh, *, abstract: bool = False, kept: Kept = kept_steps.NOTHING
) -> tuple[TrainState, Any]:
    """Initialises parameters and optimizer, sharded from the start.

    Args:
      config: the training config.
      mesh: the mesh from `sharding.make_mesh`; call inside `sharding.use`.
      abstract: whether to return shapes with shardings only, computing nothing.
      kept: what earlier starts with this config left behind.

    Returns:
      The state, and the tree of its shardings.

    Raises:
      ValueError: the seed is out of range.
    """
    if not -(2**31) <= config.seed < 2**31:  # JAX's range without 64-bit types
        raise ValueError(
            f"config.seed={config.seed}: expected a number from {-(2**31)} to {2**31 - 1}"
        )
    init_params = make_learner(config).init
    schedule = make_schedule(config.schedule, config.training_steps)
    optimizer = make_optimizer(config.optimizer, schedule)

    def start(boxed):
        params = nn.unbox(boxed)
        return TrainState(jnp.int32(0), params, optimizer.init(params))

    def init(key):
        return start(init_params(key))

    def describe():
        # Abstract: the mesh may be of devices that are not present.
        key = jax.eval_shape(jax.random.key, config.seed)
        boxed = jax.eval_shape(init_params, key)
        shapes = jax.eval_shape(start, boxed)
        params = sharding.params_sharding(boxed, shapes.params, mesh)
        opt_state = sharding.optimizer_sharding(
            optimizer, shapes.opt_state, shapes.params, params, mesh
        )
        shardings = TrainState(jax.NamedSharding(mesh, jax.P()), params, opt_state)
        return shapes, jax.tree.map(lambda x: x.spec, shardings)

    shapes, specs = kept.value("state", describe)
    shardings = jax.tree.map(lambda x: jax.NamedSharding(mesh, x), specs)
    if abstract:
        return jax.tree.map(_shape_with_sharding, shapes, shardings), shardings
    make = kept.program("init", jax.jit(init, out_shardings=shardings))
    return make(jax.random.key(config.seed)), shardings


def make_stacks(config, mesh, *, kept: Kept = kept_steps.NOTHING) -> Stacks | None:
    """Returns how layers are joined between steps; None unless they are scanned."""
    if not config.model.get("scan_layers", False):
        return None
    shapes, _ = make_state(config, mesh, abstract=True, kept=kept)
    schedule = make_schedule(config.schedule, config.training_steps)
    return Stacks(*make_parts(config.optimizer, schedule), shapes.params)


def join(
    state: TrainState, stacks: Stacks | None, how: Join = join_on_devices
) -> TrainState:
    """Returns a state as steps with `stacks` take it; its arrays are used up."""
    if stacks is None:
        return state
    params = stacks.join_params(state.params, how)
    return TrainState(state.step, params, stacks.join_state(state.opt_state, how))


def split(
    state: TrainState, stacks: Stacks | None, how: Split = split_on_devices
) -> TrainState:
    """Inverts `join`."""
    if stacks is None:
        return state
    params = stacks.split_params(state.params, how)
    return TrainState(state.step, params, stacks.split_state(state.opt_state, how))


def _shape_with_sharding(shape, placed):
    return jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=placed)


def _in_parts(gradient, parts: int, together: int = 1):
    """Returns the gradient function that splits a batch, and adds up its parts.

    Args:
      gradient: the gradient function of a part.
      parts: the number of parts.
      together: the number of consecutive rows that stay in one part.
    """

    def accumulate(params, batch, counts, key):
        if parts == 1:
            return gradient(params, batch, counts, key)

        # [B, ...] -> [parts, B / parts, ...]; strided, so that each device holds
        # examples of every part and nothing moves between devices.
        def divide(x):
            groups = x.reshape(-1, parts, together, *x.shape[1:]).swapaxes(0, 1)
            return groups.reshape(parts, -1, *x.shape[1:])

        split = jax.tree.map(divide, batch)

        def add(total, part):
            index, part = part
            value = gradient(params, part, counts, jax.random.fold_in(key, index))
            return jax.tree.map(jnp.add, total, value), None

        first = jax.tree.map(lambda x: x[0], split)
        shapes = jax.eval_shape(gradient, params, first, counts, key)
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        return jax.lax.scan(add, zeros, (jnp.arange(parts), split))[0]

    return accumulate


def _kept_if(finite, new, old):
    """Returns `new` where the step was finite, `old` where it was not.

    Unlike with `optax.apply_if_finite`, a checkpoint holds the same as without.
    """
    return jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, old)


def _move_statistics(params, statistics, parts: int):
    """Returns the addend of each parameter, as a tree."""
    found = matching.flatten(statistics)
    return matching.unflatten(batch_norm.moves(matching.flatten(params), found, parts))


def make_train_step(
    config,
    mesh,
    shardings,
    stacks: Stacks | None = None,
    *,
    kept: Kept = kept_steps.NOTHING,
):
    """Returns step(state, batch) -> (state, metrics), jitted over the mesh.

    With `config.optimizer.accumulation` > 1, the batch is split into that many parts
    to save memory; their gradients add up to exactly that of the whole batch. With
    `config.optimizer.skip_nonfinite` > 0, a step whose loss or gradient is not finite
    leaves parameters and optimizer as they are.

    Args:
      config: the training config.
      mesh: the mesh from `sharding.make_mesh`.
      shardings: from `make_state`.
      stacks: from `make_stacks`; the state is then what `join` makes of one.
      kept: what earlier starts with this config left behind.

    Returns:
      The function. Its metrics are device scalars: "loss", "gradient_norm" and
      "learning_rate", and by name of the loss "loss_sum" and "weight_sum", whose sums over
      steps give an exact mean.
    """
    learner = make_learner(config)
    schedule = make_schedule(config.schedule, config.training_steps)
    optimizer = stacks or make_optimizer(config.optimizer, schedule)
    if stacks is not None:
        shardings = join(shardings, stacks, join_sharding)
    parts = config.optimizer.accumulation
    skips = config.optimizer.get("skip_nonfinite", 0) > 0

    gradient = jax.value_and_grad(learner.loss, has_aux=True)
    accumulate = _in_parts(gradient, parts, rows_together(config.task.targets))

    def step(state: TrainState, batch):
        key = jax.random.fold_in(jax.random.key(config.seed), state.step)
        counts = learner.counts(batch)
        params = stacks.split_params(state.params) if stacks else state.params
        (loss, sums), gradients = accumulate(params, batch, counts, key)
        statistics = sums.pop(batch_norm.STATISTICS, None)
        if stacks is not None:
            gradients = stacks.join_params(gradients)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        updates = scale_updates(updates, learner.rate)
        if statistics:
            moved = _move_statistics(params, statistics, parts)
            moved = stacks.join_params(moved) if stacks else moved
            updates = jax.tree.map(jnp.add, updates, moved)
        metrics = {
            "loss": loss,
            "gradient_norm": optax.tree.norm(gradients),
            "learning_rate": jnp.asarray(schedule(state.step)),
            "loss_sum": sums,
            "weight_sum": counts,
        }
        params = optax.apply_updates(state.params, updates)
        if skips:
            finite = jnp.isfinite(loss) & jnp.isfinite(metrics["gradient_norm"])
            params, opt_state = _kept_if(
                finite, (params, opt_state), (state.params, state.opt_state)
            )
        return TrainState(state.step + 1, params, opt_state), metrics

    placed = (shardings, sharding.batch_sharding(mesh)), (shardings, None)
    jitted = jax.jit(
        step, donate_argnums=0, in_shardings=placed[0], out_shardings=placed[1]
    )
    return kept.program("step", jitted)
