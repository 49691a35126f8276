"""Train steps that count and learn nothing: a run whose steps need not be compiled."""

import dataclasses

import jax
import numpy as np

from rahf.training import loop, steps


def make_state(config, mesh, *, abstract=False):
    """A random state of the right shapes and shardings; nothing is compiled."""
    shapes, shardings = steps.make_state(config, mesh, abstract=True)
    rng = np.random.default_rng(config.seed)
    if not abstract:
        shapes = jax.tree.map(
            lambda x: jax.device_put(
                rng.random(x.shape).astype(x.dtype) if x.ndim else x.dtype.type(0),
                x.sharding,
            ),
            shapes,
        )
    return shapes, shardings


def make_train_step(config, mesh, shardings):
    """Steps that count and learn nothing: no gradient has to be compiled."""
    nothing = {"loss": 0.0, "gradient_norm": 0.0, "learning_rate": 0.0}
    metrics = nothing | {"loss_sum": {}, "weight_sum": {}}
    return lambda state, batch: (
        dataclasses.replace(state, step=state.step + 1),
        metrics,
    )


def use(monkeypatch) -> None:
    """Lets the loop take these."""
    monkeypatch.setattr(loop, "make_train_step", make_train_step)
    monkeypatch.setattr(loop, "make_state", make_state)
