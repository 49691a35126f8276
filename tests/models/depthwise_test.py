"""Depthwise convolution equals XLA's grouped one, gradients included."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from rahf.models import depthwise


def _grouped(x, kernel, stride):
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
    )


@pytest.mark.parametrize(
    ("shape", "size", "stride"),
    [((8, 7), 3, 1), ((8, 7), 3, 2), ((9, 6), 5, 2), ((2, 3), 5, 1), ((5, 5), 1, 2)],
)
def test_it_is_a_grouped_convolution(shape, size, stride):
    one, two, three = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(one, (2, *shape, 4))
    kernel = jax.random.normal(two, (size, size, 1, 4))
    weigh = jax.random.normal(three, _grouped(x, kernel, stride).shape)

    def loss(convolve):
        return lambda x, kernel: jnp.sum(weigh * convolve(x, kernel, stride) ** 2)

    found = depthwise.convolve(x, kernel, stride)
    np.testing.assert_allclose(found, _grouped(x, kernel, stride), atol=1e-5)
    ours = jax.grad(loss(depthwise.convolve), (0, 1))(x, kernel)
    theirs = jax.grad(loss(_grouped), (0, 1))(x, kernel)
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-4, atol=1e-4)


def test_for_a_tpu_it_is_one_convolution():
    x, kernel = jnp.zeros((2, 8, 8, 4)), jnp.zeros((3, 3, 1, 4))
    step = jax.jit(lambda x, kernel: depthwise.convolve(x, kernel, 1))
    text = step.trace(x, kernel).lower(lowering_platforms=("tpu",)).as_text()
    assert text.count("stablehlo.convolution") == 1
    assert "stablehlo.slice" not in text
