"""Batch norm whose statistics are parameters, and so part of every checkpoint."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from rahf.models.partitioning import named


class BatchNorm(nn.Module):
    """Batch norm by statistics that stay as they were learned.

    Mean and variance are parameters without a gradient.

    Call: dtype[B, H, W, C] -> dtype[B, H, W, C].

    Attributes:
      dtype: compute dtype; statistics and their inverse root are float32.
      epsilon: is added to the variance.
      scale_init: of the scale.
    """

    dtype: Any
    epsilon: float
    scale_init: Any = nn.initializers.ones_init()

    @nn.compact
    def __call__(self, x):
        channels = (x.shape[-1],)
        ones, zeros = nn.initializers.ones_init(), nn.initializers.zeros_init()

        def parameter(name, init):
            return self.param(name, named(init, "conv_out"), channels, jnp.float32)

        scale, bias = parameter("scale", self.scale_init), parameter("bias", zeros)
        mean = jax.lax.stop_gradient(parameter("mean", zeros))
        variance = jax.lax.stop_gradient(parameter("variance", ones))
        factor = scale * jax.lax.rsqrt(variance + self.epsilon)
        return x * factor.astype(self.dtype) + (bias - mean * factor).astype(self.dtype)
