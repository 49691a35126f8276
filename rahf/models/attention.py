"""Attention with T5's bias, computed heads first.

Shapes: B batch, Q queries, N keys, H heads, K head_dim.
"""

import jax
import jax.numpy as jnp

#: How many bytes of logits to have at once where they are computed in parts.
_PART = 16 << 20


def attend(
    query, key, value, *, bias=None, mask=None, scale: float, in_parts: bool = False
):
    """What `jax.nn.dot_product_attention` computes, faster on CPUs.

    With the heads before the positions, each head's product is one of ordinary
    matrices. At 609 positions of 12 heads, two cores of an AMD EPYC take 5.7 ms instead
    of 8.4, and forward and backward 61 ms instead of 83 in a batch of 8. Accelerators
    choose layouts themselves.

    Args:
      query: dtype[B, Q, H, K].
      key, value: dtype[B, N, H, K].
      bias: [1 or B, 1 or H, Q, N] or None.
      mask: bool[1 or B, 1 or H, 1 or Q, N], False where not to look, or None.
      scale: what to multiply the logits by, before the bias.
      in_parts: whether the batch may be taken in parts, so that logits stay in a CPU's
        cache: a batch of 8 takes 8.1 ms a row instead of 20. For prediction: a gradient
        would have to keep the logits all the same.

    Returns:
      dtype[B, Q, H, K]; logits and softmax are float32.
    """
    query, key, value = (x.swapaxes(1, 2) for x in (query, key, value))  # [B, H, ., K]

    def whole(query, key, value, bias, mask):
        return _attend(query, key, value, bias, mask, scale)

    def parts(query, key, value, bias, mask):
        return _in_parts(whole, query, key, value, bias, mask)

    given = query, key, value, bias, mask
    if in_parts and jax.sharding.get_abstract_mesh().empty and _size(query, key) > 1:
        x = jax.lax.platform_dependent(*given, cpu=parts, default=whole)
    else:
        x = whole(*given)
    return x.swapaxes(1, 2)


def _attend(query, key, value, bias, mask, scale: float):
    # Of bfloat16 the backward pass, too, then multiplies bfloat16 matrices.
    bf16 = jax.lax.DotAlgorithmPreset.BF16_BF16_F32
    logits = jnp.einsum(
        "bhqk,bhnk->bhqn",
        query,
        key,
        precision=bf16 if query.dtype == jnp.bfloat16 else None,
        preferred_element_type=jnp.float32,
    )
    logits *= scale
    if bias is not None:
        logits += bias
    if mask is not None:
        logits = jnp.where(mask, logits, jnp.finfo(jnp.float32).min)
    weights = jax.nn.softmax(logits).astype(value.dtype)
    return jnp.einsum("bhqn,bhnk->bhqk", weights, value)


def _size(query, key) -> int:
    """Returns how many parts the batch has: all of equal size."""
    batch, heads, queries, _ = query.shape
    row = heads * queries * key.shape[2] * 4
    wanted = min(batch, -(-batch * row // _PART))
    return next(n for n in range(max(wanted, 1), batch + 1) if batch % n == 0)


def _in_parts(whole, query, key, value, bias, mask):
    count = _size(query, key)
    split = lambda x: x.reshape(count, -1, *x.shape[1:])
    own = {"query": query, "key": key, "value": value}
    shared = {}
    for name, x in (("bias", bias), ("mask", mask)):
        (shared if x is None or len(x) == 1 else own)[name] = x
    x = jax.lax.map(lambda part: whole(**part, **shared), jax.tree.map(split, own))
    return x.reshape(query.shape)
