"""Runs of the loop that compile nothing, or one step for all of them."""

import dataclasses
import functools
import json

import jax
import numpy as np

from rahf.training import loop, steps
from tests.support import tiny

#: What a config says of a run and not of its state or its step. Of the schedule that
#: `tiny.config` has, the number of steps is no part.
_LENGTHS = ("training_steps", "eval", "checkpoint", "log")


def _once(make):
    """Remembers what was made for a config, whatever the length of its run."""
    made = {}

    @functools.wraps(make)
    def remembering(config, mesh, *rest, kept=None):
        content = json.loads(config.to_json_best_effort())
        if config.schedule.name == "constant":
            content = {k: v for k, v in content.items() if k not in _LENGTHS}
        key = json.dumps(content), mesh
        if key not in made:
            made[key] = make(config, mesh, *rest)
        return made[key]

    return remembering


@_once
def _shapes(config, mesh):
    return steps.make_state(config, mesh, abstract=True)


def make_state(config, mesh, *, abstract=False, kept=None):
    """A new state, its parameters random; nothing is compiled."""
    shapes, shardings = _shapes(config, mesh)
    if abstract:
        return shapes, shardings
    state = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
    params = tiny.random_params(shapes.params, config.seed)
    state = dataclasses.replace(state, params=params)
    return jax.tree.map(jax.device_put, state, shardings), shardings


def make_empty_step(config, mesh, shardings, stacks=None, kept=None):
    """Steps that count and learn nothing: no gradient has to be compiled."""
    nothing = {"loss": 0.0, "gradient_norm": 0.0, "learning_rate": 0.0}
    metrics = nothing | {"loss_sum": {}, "weight_sum": {}}
    return lambda state, batch: (
        dataclasses.replace(state, step=state.step + 1),
        metrics,
    )


def _make_traced_step(config, mesh, shardings, stacks=None, kept=None):
    """Steps that count and learn nothing, once the real one has been traced."""
    real = steps.make_train_step(config, mesh, shardings, stacks)

    def step(state, batch):
        after, metrics = jax.eval_shape(real, state, batch)
        assert jax.tree.structure(after) == jax.tree.structure(state)
        zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), metrics)
        return dataclasses.replace(state, step=state.step + 1), zeros

    return step


_STEPS = {
    "empty": make_empty_step,
    "traced": _make_traced_step,
    "compiled": _once(steps.make_train_step),
}


def use(monkeypatch, step: str = "empty") -> None:
    """Lets the loop take these.

    Args:
      monkeypatch: pytest's.
      step: "empty", "traced", or "compiled": the real one, once for equal models.
    """
    monkeypatch.setattr(loop, "make_train_step", _STEPS[step])
    monkeypatch.setattr(loop, "make_state", make_state)
