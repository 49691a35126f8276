"""Batch norm whose statistics are parameters, and so part of every checkpoint.

They have no gradient. Frozen, they stay as they are. Trained, each step normalises by its
own batch and tells the batch's statistics, towards which the step then moves the
parameters. No state beside the parameters is needed, so restoring, predicting and
exporting know nothing of batch norm.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from rahf.models.partitioning import named

#: The collection of what batches had. Where it is mutable, they are normalised by it;
#: elsewhere, as in evaluation, by the parameters.
STATISTICS = "statistics"
#: How far a step moves the parameters towards the statistics of its batch: PyTorch's.
_RATE = 0.1


class BatchNorm(nn.Module):
    """Batch norm by its parameters `mean` and `variance`, or by the batch's own.

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
        if self.is_mutable_collection(STATISTICS) and not self.is_initializing():
            exact = x.astype(jnp.float32)
            mean = exact.mean((0, 1, 2))
            variance = jnp.square(exact - mean).mean((0, 1, 2))
            self.put_variable(STATISTICS, "mean", jax.lax.stop_gradient(mean))
            self.put_variable(STATISTICS, "variance", jax.lax.stop_gradient(variance))
        factor = scale * jax.lax.rsqrt(variance + self.epsilon)
        return x * factor.astype(self.dtype) + (bias - mean * factor).astype(self.dtype)


def moves(params: Mapping[str, Any], found: Mapping[str, Any], parts: int):
    """Returns what a step adds to parameters for the statistics of its batch.

    Args:
      params: the parameters by name, "vit/.../norm/mean".
      found: the statistics by the same names, added up over the parts of a batch.
      parts: the number of parts.

    Returns:
      The addend of each parameter by name, zeros for those that are no statistics.
    """
    return {
        name: _RATE * (found[name] / parts - leaf)
        if name in found
        else jnp.zeros_like(leaf)
        for name, leaf in params.items()
    }
