"""Batch norm: what learns, and what does not."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from rahf.models.batch_norm import BatchNorm


def test_statistics_of_batch_norm_learn_nothing_and_all_else_does():
    norm = BatchNorm(jnp.float32, 1e-3)
    x = jax.random.normal(jax.random.key(0), (2, 3, 3, 4))
    params = norm.init(jax.random.key(1), x)
    found = jax.grad(lambda params: (norm.apply(params, x) ** 2).sum())(params)
    leaves = nn.unbox(found)["params"].items()
    moved = {name: bool(value.any()) for name, value in leaves}
    assert moved == {"scale": True, "bias": True, "mean": False, "variance": False}
