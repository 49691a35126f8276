"""The layers of T5: configuration, norm, position bias, attention, MLP.

Shapes: B batch, N keys, Q queries, D embed, H heads, K head_dim.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from rahf.models.attention import attend
from rahf.models.partitioning import named

_SIZES = {  # embed, head_dim, heads, layers, mlp of the first release, mlp of 1.1
    "tiny": (64, 16, 4, 2, 128, 128),
    "mini": (192, 32, 6, 4, 512, 384),
    "small": (512, 64, 8, 6, 2048, 1024),
    "base": (768, 64, 12, 12, 3072, 2048),
    "large": (1024, 64, 16, 24, 4096, 2816),
}


@dataclasses.dataclass(frozen=True)
class T5Config:
    """Hyperparameters of the text encoder-decoder.

    Attributes:
      vocab_size: rows of the token embedding.
      embed_dim, head_dim, num_heads, mlp_dim: sizes of every layer.
      encoder_layers, decoder_layers: depth of each stack.
      gated: gated GELU and an untied output layer, as in 1.1; False is the first
        release.
      relative_buckets, relative_max_distance: sizes of the position bias, which the
        layers of a stack share.
      dropout: dropout rate.
      dtype: compute dtype; parameters, norms, softmax and logits are float32.
      remat: recompute each layer in the backward pass; a string is a policy of
        `rahf.models.remat`.
      scan_layers: run the layers of a stack as one loop
        (`rahf.models.scanned_layers`), except when decoding with a cache.
    """

    vocab_size: int = 32128
    embed_dim: int = 768
    head_dim: int = 64
    num_heads: int = 12
    mlp_dim: int = 3072
    encoder_layers: int = 12
    decoder_layers: int = 12
    gated: bool = False
    relative_buckets: int = 32
    relative_max_distance: int = 128
    dropout: float = 0.0
    dtype: Any = jnp.float32
    remat: bool | str = False
    scan_layers: bool = False

    @classmethod
    def from_name(
        cls, size: str = "base", *, gated: bool = False, **fields
    ) -> "T5Config":
        """Returns "tiny", "mini", "small", "base" or "large", with `fields` overriding.

        The last three are published sizes; tiny and mini are for tests and laptops.
        """
        if size not in _SIZES:
            raise ValueError(
                f"config.model.t5.size={size!r}; known: {', '.join(_SIZES)}"
            )
        embed, head_dim, heads, layers, mlp, mlp_gated = _SIZES[size]
        shape = {
            "embed_dim": embed,
            "head_dim": head_dim,
            "num_heads": heads,
            "mlp_dim": mlp_gated if gated else mlp,
            "encoder_layers": layers,
            "decoder_layers": layers,
            "gated": gated,
        }
        return cls(**{**shape, **fields})


# The initialisers of T5X's examples/t5 (network.py and layers.py).
_ATTENTION_INIT = nn.initializers.variance_scaling(1.0, "fan_in", "normal")
MLP_INIT = nn.initializers.variance_scaling(1.0, "fan_in", "truncated_normal")


def _query_init(head_dim: int):
    # T5 does not scale attention by 1/sqrt(head_dim): the initial query includes it.
    return nn.initializers.variance_scaling(1.0 / head_dim, "fan_in", "normal")


def _dense(c: T5Config, features: int, initializer, axes, name=None) -> nn.Dense:
    return nn.Dense(
        features,
        use_bias=False,
        dtype=c.dtype,
        kernel_init=named(initializer, *axes),
        name=name,
    )


#: The collection of what a model shows on demand (rahf.models.intermediates).
INTERMEDIATES = "intermediates"


class RMSNorm(nn.Module):
    """T5's layer norm: scales only, subtracts no mean; computed in float32."""

    dtype: Any = jnp.float32
    epsilon: float = 1e-6

    @nn.compact
    def __call__(self, x):
        scale = self.param(
            "scale",
            named(nn.initializers.ones_init(), "norm"),
            (x.shape[-1],),
            jnp.float32,
        )
        x = x.astype(jnp.float32)
        x = x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + self.epsilon)
        return (x * scale).astype(self.dtype)


def relative_position_bucket(
    distance, *, bidirectional: bool, num_buckets: int, max_distance: int
):
    """Returns the bucket of each key position minus query position.

    Half of the buckets hold one distance each, the others grow logarithmically up to
    `max_distance`; larger distances share the last.

    Args:
      distance: int32[...], key position minus query position.
      bidirectional: whether keys to the right have separate buckets (encoder).
      num_buckets: the total number of buckets.
      max_distance: where the logarithmic half ends.

    Returns:
      int32[...] in [0, num_buckets).
    """
    offset = 0
    if bidirectional:
        num_buckets //= 2
        offset = jnp.where(distance > 0, num_buckets, 0)
        distance = jnp.abs(distance)
    else:
        distance = jnp.maximum(-distance, 0)
    exact = num_buckets // 2
    ratio = jnp.log(jnp.maximum(distance, 1).astype(jnp.float32) / exact)
    ratio = ratio / jnp.log(jnp.float32(max_distance / exact))
    far = exact + (ratio * (num_buckets - exact)).astype(jnp.int32)
    far = jnp.minimum(far, num_buckets - 1)
    return offset + jnp.where(distance < exact, distance, far)


class RelativeBias(nn.Module):
    """Position bias: int32[Q] or int32[B, Q] and int32[K] positions ->
    float32[1 or B, H, Q, K]."""

    config: T5Config
    bidirectional: bool

    @nn.compact
    def __call__(self, query_positions, key_positions):
        c = self.config
        embedding = self.param(
            "rel_embedding",
            named(
                nn.initializers.variance_scaling(1.0, "fan_avg", "uniform"),
                "heads",
                "relpos_buckets",
            ),
            (c.num_heads, c.relative_buckets),
            jnp.float32,
        )
        buckets = relative_position_bucket(
            key_positions - query_positions[..., None],
            bidirectional=self.bidirectional,
            num_buckets=c.relative_buckets,
            max_distance=c.relative_max_distance,
        )
        bias = jnp.moveaxis(embedding[:, buckets], 0, -3)
        return bias if bias.ndim == 4 else bias[None]


def attention_weights(query, key, *, bias=None, mask=None):
    """What `rahf.models.attention.attend` weighs the values by.

    Args:
      query: dtype[B, Q, H, K].
      key: dtype[B, N, H, K].
      bias: dtype[B or 1, H, Q, N] or None.
      mask: bool[B or 1, 1, Q or 1, N], False where not to look, or None.

    Returns:
      float32[B, H, Q, N], of sum 1 over N.
    """
    logits = jnp.einsum("bqhk,bnhk->bhqn", query, key).astype(jnp.float32)
    if bias is not None:
        logits += bias
    if mask is not None:
        logits = jnp.where(mask, logits, jnp.finfo(jnp.float32).min)
    return jax.nn.softmax(logits)


class Attention(nn.Module):
    """Multi-head attention over keys and values from `keys_values`.

    They are projected separately so that decoding can cache them: the decoder's own
    grow by one position per step, the encoder's never change.
    """

    config: T5Config

    def setup(self):
        c = self.config
        joined, axes = c.num_heads * c.head_dim, ("embed", "joined_kv")
        self.query = _dense(c, joined, _query_init(c.head_dim), axes)
        self.key = _dense(c, joined, _ATTENTION_INIT, axes)
        self.value = _dense(c, joined, _ATTENTION_INIT, axes)
        self.out = _dense(c, c.embed_dim, _ATTENTION_INIT, ("joined_kv", "embed"))

    def _split(self, x):  # [B, N, H * K] -> [B, N, H, K]
        return x.reshape(*x.shape[:-1], self.config.num_heads, self.config.head_dim)

    def keys_values(self, memory):
        """dtype[B, N, D] -> keys and values, each dtype[B, N, H, K]."""
        return self._split(self.key(memory)), self._split(self.value(memory))

    def __call__(self, x, key, value, *, bias=None, mask=None):
        """dtype[B, Q, D] -> dtype[B, Q, D].

        Args:
          x: the queries' input.
          key, value: dtype[B, N, H, K] from `keys_values`.
          bias: float32[B or 1, H, Q, N] or None.
          mask: bool[B or 1, 1, Q, N], False where not to attend, or None.
        """
        query = self._split(self.query(x))
        if bias is not None:
            bias = bias.astype(query.dtype)
        if self.is_mutable_collection(INTERMEDIATES):  # somebody wants to look
            weights = attention_weights(query, key, bias=bias, mask=mask)
            self.sow(INTERMEDIATES, "weights", weights)
        x = attend(query, key, value, bias=bias, mask=mask, scale=1.0)
        return self.out(x.reshape(*x.shape[:-2], -1))


class Mlp(nn.Module):
    """dtype[..., D] -> dtype[..., D]; ReLU, or gated GELU as in T5 1.1."""

    config: T5Config

    @nn.compact
    def __call__(self, x, deterministic: bool):
        c = self.config
        wide = ("embed", "mlp")
        if c.gated:
            x = nn.gelu(_dense(c, c.mlp_dim, MLP_INIT, wide, "wi_0")(x)) * _dense(
                c, c.mlp_dim, MLP_INIT, wide, "wi_1"
            )(x)
        else:
            x = nn.relu(_dense(c, c.mlp_dim, MLP_INIT, wide, "wi")(x))
        x = nn.Dropout(c.dropout, deterministic=deterministic)(x)
        return _dense(c, c.embed_dim, MLP_INIT, ("mlp", "embed"), "wo")(x)
