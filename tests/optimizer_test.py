"""Schedules at the steps that matter, and what is decayed."""

import jax.numpy as jnp
import numpy as np
import pytest

from rahf.training import optimizer
from tests import tiny


def _schedule(**fields):
    config = tiny.config()
    config.training_steps = 1000
    config.schedule.update(peak=0.01, warmup_steps=100, **fields)
    return optimizer.make_schedule(config)


def test_reciprocal_square_root():
    schedule = _schedule(name="rsqrt")
    steps = [0, 49, 99, 100, 300]
    expected = [0.0001, 0.005, 0.01, 0.01, 0.01 * (100 / 300) ** 0.5]
    np.testing.assert_allclose([schedule(s) for s in steps], expected, rtol=1e-5)


def test_cosine_ends_at_its_fraction():
    schedule = _schedule(name="cosine", final_fraction=0.1)
    np.testing.assert_allclose(
        [schedule(s) for s in (100, 550, 1000)], [0.01, 0.0055, 0.001], rtol=1e-5
    )


def test_constant():
    np.testing.assert_allclose(_schedule(name="constant")(999), 0.01)


def test_unknown_names():
    with pytest.raises(ValueError, match="config.schedule.name='linear'.*'rsqrt'"):
        _schedule(name="linear")
    config = tiny.config()
    config.optimizer.name = "sgd"
    with pytest.raises(ValueError, match="config.optimizer.name='sgd'.*'adafactor'"):
        optimizer.make_optimizer(config)


def test_weight_decay_spares_norms_and_biases():
    config = tiny.config()
    config.optimizer.weight_decay = 0.5
    params = {"kernel": jnp.ones((2, 2)), "scale": jnp.ones(2)}
    update = optimizer.make_optimizer(config)
    zeros = {name: jnp.zeros_like(x) for name, x in params.items()}
    updates, _ = update.update(zeros, update.init(params), params)
    assert (updates["kernel"] < 0).all()
    assert (updates["scale"] == 0).all()
