"""Optimizers and learning-rate schedules, from the config."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax


def make_schedule(schedule, training_steps: int) -> optax.Schedule:
    """Returns the learning rate as a function of the step.

    `rsqrt`: linear warm-up to the peak, then peak * sqrt(warmup / step), the usual
    schedule of T5. `cosine`: linear warm-up, then half a cosine down to
    `final_fraction` of the peak at `training_steps`. `constant`: warm-up only.

    Args:
      schedule: `config.schedule`.
      training_steps: the number of steps of the run.

    Raises:
      ValueError: `schedule.name` is unknown.
    """
    s = schedule
    warmup = max(s.warmup_steps, 1)
    if s.name == "rsqrt":
        # optax also evaluates the tail during warm-up, and discards it.
        tail = lambda step: s.peak * (warmup / (jnp.maximum(step, 0) + warmup)) ** 0.5
    elif s.name == "cosine":
        steps = max(training_steps - warmup, 1)
        tail = optax.cosine_decay_schedule(s.peak, steps, alpha=s.final_fraction)
    elif s.name == "constant":
        tail = optax.constant_schedule(s.peak)
    else:
        raise ValueError(
            f"config.schedule.name={s.name!r}; known: 'rsqrt', 'cosine', 'constant'"
        )
    rise = optax.linear_schedule(0.0, s.peak, warmup)
    # The rate of step 0 is not zero, which would waste the first batch.
    return optax.join_schedules([lambda step: rise(step + 1), tail], [warmup])


def _decayed(params):
    """Returns True for matrices and kernels; norms, biases and scalars do not decay."""
    return jax.tree.map(lambda x: x.ndim > 1, params)


def scale_by_parameter_rms() -> optax.GradientTransformation:
    """Makes the learning rate relative to each matrix's root mean square.

    T5 folds attention's 1/sqrt(head_dim) into a small initial query kernel. A step of
    absolute size therefore moves queries, and with them the attention logits, several
    times farther than anything else, and attention saturates before it has learned
    where to look. T5's own Adafactor multiplies updates by the parameter's root mean
    square for that reason; this does the same after Adam. Norms and biases, whose size
    means little, get a tenth of the update.
    """

    def scale(update, param):
        if param.ndim < 2:
            return 0.1 * update
        rms = jnp.sqrt(jnp.mean(jnp.square(param)))
        return jnp.maximum(rms, 1e-3) * update

    return optax.stateless(lambda updates, params: jax.tree.map(scale, updates, params))


def scale_updates(updates, rate: Callable[[str], float]):
    """Scales the updates of some parameters.

    Args:
      updates: a tree of updates, or one by name, as `rahf.training.stacks` has them.
      rate: the name of a parameter, "vit/cls" say -> its learning rate, relative to
        that of the schedule.
    """

    def scale(path, update):
        factor = rate("/".join(str(getattr(key, "key", key)) for key in path))
        if factor == 0:
            return jnp.zeros_like(update)
        return update if factor == 1 else update * factor

    return jax.tree_util.tree_map_with_path(scale, updates)


#: Jordan et al.'s coefficients of the quintic iteration.
_NEWTON_SCHULZ = (3.4445, -4.775, 2.0315)


def _sides(path, array) -> optax.contrib.MuonDimensionNumbers | None:
    """Returns which axes of a kernel are its inputs and which its outputs; None of all
    other arrays."""
    names = [str(getattr(key, "key", key)) for key in path]
    if names[-1] != "kernel":
        return None
    axes = tuple(range(array.ndim))
    # Of queries, keys and values with an axis for heads, heads are outputs.
    to_heads = array.ndim == 3 and names[-2] != "out"
    inputs = 1 if to_heads else array.ndim - 1
    return optax.contrib.MuonDimensionNumbers(axes[:inputs], axes[inputs:])


def _scale_by_muon(optimizer) -> optax.GradientTransformation:
    """Makes the momentum of a kernel orthogonal, with a root mean square of 1.

    Jordan et al., "Muon" (2024), as optax has it. All other arrays, embeddings among
    them, follow Adam with Nesterov's momentum.
    """
    return optax.contrib.muon(
        -1.0,  # the rate follows, and is negative
        # Five equal steps, as by default. Listed, they are a loop, which halves what is
        # compiled; by number, optax unrolls them.
        ns_coeffs=(_NEWTON_SCHULZ,) * 5,
        consistent_rms=1.0,
        muon_weight_dimension_numbers=functools.partial(
            jax.tree_util.tree_map_with_path, _sides
        ),
        adam_b1=optimizer.b1,
        adam_b2=optimizer.b2,
    )


def make_optimizer(
    optimizer, learning_rate: optax.Schedule
) -> optax.GradientTransformation:
    """Returns gradient clipping followed by an optimizer, see `make_parts`."""
    return optax.chain(*make_parts(optimizer, learning_rate))


def make_parts(
    optimizer, learning_rate: optax.Schedule
) -> tuple[optax.GradientTransformation, optax.GradientTransformation]:
    """Returns gradient clipping, and an optimizer that treats each array by itself.

    AdamW, Adafactor or Muon. All decay matrices by learning rate * weight decay per
    step. This is why Adafactor is assembled from its parts: `optax.adafactor` decays by
    the bare weight decay, whatever the learning rate, and 0.01 per step soon leaves
    nothing of a matrix.

    Args:
      optimizer: `config.optimizer`.
      learning_rate: the schedule from `make_schedule`.

    Raises:
      ValueError: `optimizer.name` is unknown.
    """
    o = optimizer
    if o.name == "adamw":
        direction = optax.scale_by_adam(b1=o.b1, b2=o.b2)
    elif o.name == "adafactor":
        direction = optax.chain(
            optax.scale_by_factored_rms(), optax.clip_by_block_rms(1.0)
        )
    elif o.name == "muon":
        direction = _scale_by_muon(o)
    else:
        raise ValueError(
            f"config.optimizer.name={o.name!r}; known: 'adamw', 'adafactor', 'muon'"
        )
    update = optax.chain(
        direction,
        optax.add_decayed_weights(o.weight_decay, mask=_decayed),
        scale_by_parameter_rms() if o.relative else optax.identity(),
        optax.scale_by_learning_rate(learning_rate),
    )
    # The state has the same structure without clipping, so a run may turn it on or off.
    clip = optax.clip_by_global_norm(o.clip_norm) if o.clip_norm else optax.identity()
    return clip, update
