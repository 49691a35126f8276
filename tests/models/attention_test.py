"""Attention: against that of JAX."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rahf.models import attention


def _given(batch, queries, keys, *, bias, mask, dtype=jnp.float32):
    rng = np.random.default_rng(0)
    draw = lambda *shape: jnp.asarray(rng.standard_normal(shape), jnp.float32)
    query = draw(batch, queries, 3, 4).astype(dtype)
    key, value = (draw(batch, keys, 3, 4).astype(dtype) for _ in range(2))
    found = {"bias": None, "mask": None}
    if bias:
        found["bias"] = draw(bias, 3, queries, keys)
    if mask:
        found["mask"] = jnp.asarray(rng.random((mask, 1, 1, keys)) < 0.7)
    return (query, key, value), found


@pytest.mark.parametrize(
    ("bias", "mask"), [(0, 0), (1, 0), (0, 1), (1, 6), (6, 6), (6, 0)]
)
def test_equals_that_of_jax(bias, mask):
    given, options = _given(6, 5, 4, bias=bias, mask=mask)
    expected = jax.nn.dot_product_attention(*given, scale=0.7, **options)
    found = attention.attend(*given, scale=0.7, **options)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_gradients_and_bfloat16():
    for dtype, atol in ((jnp.float32, 1e-5), (jnp.bfloat16, 5e-2)):
        given, options = _given(2, 5, 4, bias=1, mask=2, dtype=dtype)

        def loss(attend, *given, options=options, **more):
            x = attend(*given, scale=0.7, **options, **more)
            assert x.dtype == given[0].dtype
            return (x.astype(jnp.float32) ** 2).sum()

        expected = jax.grad(loss, argnums=(1, 2, 3))(
            jax.nn.dot_product_attention, *given
        )
        found = jax.grad(loss, argnums=(1, 2, 3))(attention.attend, *given)
        for one, other in zip(found, expected, strict=True):
            assert one.dtype == dtype
            np.testing.assert_allclose(
                one.astype(np.float32), other.astype(np.float32), atol=atol
            )
