"""Schedules at the steps that matter, and what is decayed."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rahf.training import optimizer
from tests.support import tiny


def _optimizer(config):
    schedule = optimizer.make_schedule(config.schedule, config.training_steps)
    return optimizer.make_optimizer(config.optimizer, schedule)


@functools.partial(jax.jit, static_argnums=0)
def _first_update(update, gradients, params):
    return update.update(gradients, update.init(params), params)


def _schedule(**fields):
    config = tiny.config()
    config.training_steps = 1000
    config.schedule.update(peak=0.01, warmup_steps=100, **fields)
    return optimizer.make_schedule(config.schedule, config.training_steps)


def test_reciprocal_square_root():
    schedule = _schedule(name="rsqrt")
    steps = [0, 49, 99, 100, 300]
    expected = [0.0001, 0.005, 0.01, 0.01, 0.01 * (100 / 300) ** 0.5]
    found = jax.jit(jax.vmap(schedule))(jnp.array(steps))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_cosine_ends_at_its_fraction():
    schedule = _schedule(name="cosine", final_fraction=0.1)
    found = jax.jit(jax.vmap(schedule))(jnp.array([100, 550, 1000]))
    np.testing.assert_allclose(found, [0.01, 0.0055, 0.001], rtol=1e-5)


def test_constant():
    np.testing.assert_allclose(_schedule(name="constant")(999), 0.01)


def test_unknown_names():
    with pytest.raises(ValueError, match="config.schedule.name='linear'.*'rsqrt'"):
        _schedule(name="linear")
    config = tiny.config()
    config.optimizer.name = "sgd"
    with pytest.raises(ValueError, match="config.optimizer.name='sgd'.*'adafactor'"):
        _optimizer(config)


@pytest.mark.parametrize("name", ["adamw", "adafactor", "muon"])
@pytest.mark.parametrize("relative", [False, True])
def test_weight_decay_is_scaled_by_the_rate_and_spares_norms(name, relative):
    config = tiny.config()
    config.optimizer.update(name=name, weight_decay=0.5, relative=relative)
    config.schedule.update(name="constant", peak=0.01, warmup_steps=1)
    params = {"kernel": jnp.full((256, 128), 2.0), "scale": jnp.ones(2)}
    update = _optimizer(config)
    zeros = jax.tree.map(jnp.zeros_like, params)
    updates, _ = _first_update(update, zeros, params)
    size = 2.0 if relative else 1.0
    np.testing.assert_allclose(updates["kernel"], -0.01 * 0.5 * 2.0 * size, rtol=1e-5)
    assert (updates["scale"] == 0).all()


@pytest.mark.parametrize("name", ["adamw", "adafactor"])
def test_a_step_descends_by_the_rate(name):
    """Every gradient alike: the step is its sign, times rate and relative size."""
    config = tiny.config()
    config.optimizer.update(name=name, weight_decay=0.0, relative=True)
    config.schedule.update(name="constant", peak=0.01, warmup_steps=1)
    params = {"kernel": jnp.full((256, 128), 2.0), "scale": jnp.ones(2)}
    update = _optimizer(config)
    gradients = jax.tree.map(lambda x: 3.0 * jnp.ones_like(x), params)
    updates, _ = _first_update(update, gradients, params)
    np.testing.assert_allclose(updates["kernel"], -0.01 * 2.0, rtol=1e-3)
    np.testing.assert_allclose(updates["scale"], -0.01 * 0.1, rtol=1e-3)


@pytest.mark.parametrize(
    ("layer", "shape", "inputs"),
    [
        ("wi", (24, 12), 24),
        ("wi", (12, 24), 12),
        ("conv", (2, 2, 3, 24), 12),
        ("query", (12, 4, 6), 12),  # with an axis for heads
        ("out", (4, 6, 12), 24),
    ],
)
def test_muon_moves_all_directions_of_a_kernel_alike_and_no_embedding(
    layer, shape, inputs
):
    config = tiny.config()
    config.optimizer.update(name="muon", weight_decay=0.0, relative=False)
    config.optimizer.clip_norm = 0.0
    config.schedule.update(name="constant", peak=0.01, warmup_steps=1)
    rng = np.random.default_rng(0)
    spread = np.logspace(0, -1.5, shape[-1])  # of the gradients' singular values
    gradients = {
        layer: {
            name: jnp.asarray(rng.normal(size=shape) * spread, jnp.float32)
            for name in ("kernel", "embedding")
        }
    }
    params = jax.tree.map(jnp.ones_like, gradients)
    updates, _ = _first_update(_optimizer(config), gradients, params)
    gradients, updates = gradients[layer], updates[layer]
    matrix = np.asarray(updates["kernel"]).reshape(inputs, -1)
    # Five steps of Newton-Schulz end between .7 and 1.2 (Jordan et al.).
    sizes = np.linalg.svd(matrix, compute_uv=False) / 0.01
    sizes /= max(matrix.shape) ** 0.5
    assert (sizes > 0.6).all() and (sizes < 1.3).all()
    assert (updates["kernel"] * gradients["kernel"]).sum() < 0
    signs = jnp.sign(gradients["embedding"])  # the first step of Adam with Nesterov's
    ahead = updates["embedding"] / (-0.01 * signs)
    np.testing.assert_allclose(ahead, ahead.max(), rtol=1e-3)
    assert 1 < ahead.max() < 1.5


def test_parameters_have_rates_of_their_own_by_name_and_by_path():
    updates = {"vit": {"embedding": {"out": 2.0}, "cls": 2.0}, "encoder": 2.0}
    rate = lambda at: lambda name: at if name.startswith("vit/embedding/") else 1.0
    found = optimizer.scale_updates(updates, rate(0.25))
    assert found == {"vit": {"embedding": {"out": 0.5}, "cls": 2.0}, "encoder": 2.0}
    joined = {"vit/embedding/out": jnp.float32(jnp.nan), "vit/cls": 2.0}
    frozen = optimizer.scale_updates(joined, rate(0.0))
    assert frozen == {"vit/embedding/out": 0, "vit/cls": 2}  # whatever its gradient is
