"""The T5 encoder-decoder, its parameters named as in T5X's `examples/t5`.

Raffel et al., "Exploring the Limits of Transfer Learning" (2020). Both the first
release (ReLU, tied output embedding) and 1.1 (gated GELU, own output layer). The
encoder takes embeddings, not ids, so that image tokens can stand before the text.

Shapes: B batch, N encoder length, T decoder length, D embed, H heads, K head_dim,
V vocabulary.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct

_SIZES = {  # embed, head_dim, heads, layers; mlp of the first release, and of 1.1
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
      embed_dim, head_dim, num_heads, mlp_dim: of every layer.
      encoder_layers, decoder_layers: depth of each stack.
      gated: 1.1's gated GELU and untied output layer; False is the first release.
      relative_buckets, relative_max_distance: of the position bias, which each
        stack has once and shares between its layers.
      dropout: rate.
      dtype: compute dtype; parameters, norms, softmax and logits are float32.
      remat: recompute each layer in the backward pass.
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
    remat: bool = False

    @classmethod
    def of_size(cls, size: str = "base", *, gated: bool = False, **fields) -> "T5Config":
        """ "tiny", "mini", "small", "base" or "large", with `fields` overriding.

        The last three are the published ones; tiny and mini are for tests and
        for laptops.
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


def _init(initializer, *axes):
    return nn.with_logical_partitioning(initializer, axes)


# The initialisers of T5X's examples/t5 (network.py and layers.py).
_ATTENTION_INIT = nn.initializers.variance_scaling(1.0, "fan_in", "normal")
_MLP_INIT = nn.initializers.variance_scaling(1.0, "fan_in", "truncated_normal")


def _query_init(head_dim: int):
    # T5 has no 1/sqrt(head_dim) at run time: it is folded into the initial query.
    return nn.initializers.variance_scaling(1.0 / head_dim, "fan_in", "normal")


def _dense(c: T5Config, features: int, initializer, axes, name=None) -> nn.Dense:
    return nn.Dense(
        features,
        use_bias=False,
        dtype=c.dtype,
        kernel_init=_init(initializer, *axes),
        name=name,
    )


class RMSNorm(nn.Module):
    """T5's layer norm: scale only, no mean; computed in float32."""

    dtype: Any = jnp.float32
    epsilon: float = 1e-6

    @nn.compact
    def __call__(self, x):
        scale = self.param(
            "scale",
            _init(nn.initializers.ones_init(), "norm"),
            (x.shape[-1],),
            jnp.float32,
        )
        x = x.astype(jnp.float32)
        x = x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + self.epsilon)
        return (x * scale).astype(self.dtype)


def relative_position_bucket(
    distance, *, bidirectional: bool, num_buckets: int, max_distance: int
):
    """Maps key position - query position to a bucket.

    Half of the buckets hold one distance each, the other half grow
    logarithmically up to `max_distance`; farther ones share the last.

    Args:
      distance: int32[...], key position minus query position.
      bidirectional: give keys to the right buckets of their own (encoder).
      num_buckets: how many buckets in all.
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
    """Position bias: int32[Q], int32[K] positions -> float32[1, H, Q, K]."""

    config: T5Config
    bidirectional: bool

    @nn.compact
    def __call__(self, query_positions, key_positions):
        c = self.config
        embedding = self.param(
            "rel_embedding",
            _init(
                nn.initializers.variance_scaling(1.0, "fan_avg", "uniform"),
                "heads",
                "relpos_buckets",
            ),
            (c.num_heads, c.relative_buckets),
            jnp.float32,
        )
        buckets = relative_position_bucket(
            key_positions[None, :] - query_positions[:, None],
            bidirectional=self.bidirectional,
            num_buckets=c.relative_buckets,
            max_distance=c.relative_max_distance,
        )
        return embedding[:, buckets][None]


class Attention(nn.Module):
    """Multi-head attention of queries over keys and values projected beforehand.

    They are projected by `keys_values`, apart from the call, so that decoding can
    keep them: its own grow by a position a step, the encoder's never change.
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
        """dtype[B, N, D] -> two of dtype[B, N, H, K]."""
        return self._split(self.key(memory)), self._split(self.value(memory))

    def __call__(self, x, key, value, *, bias=None, mask=None):
        """dtype[B, Q, D] -> dtype[B, Q, D].

        Args:
          x: what asks.
          key, value: dtype[B, N, H, K] from `keys_values`.
          bias: float32[1, H, Q, N] or None.
          mask: bool[B or 1, 1, Q, N], False where not to look, or None.
        """
        query = self._split(self.query(x))
        if bias is not None:
            bias = bias.astype(query.dtype)
        x = jax.nn.dot_product_attention(  # softmax in float32
            query, key, value, bias=bias, mask=mask, scale=1.0
        )
        return self.out(x.reshape(*x.shape[:-2], -1))


class Mlp(nn.Module):
    config: T5Config

    @nn.compact
    def __call__(self, x, deterministic: bool):
        c = self.config
        wide = ("embed", "mlp")
        if c.gated:
            x = nn.gelu(_dense(c, c.mlp_dim, _MLP_INIT, wide, "wi_0")(x)) * _dense(
                c, c.mlp_dim, _MLP_INIT, wide, "wi_1"
            )(x)
        else:
            x = nn.relu(_dense(c, c.mlp_dim, _MLP_INIT, wide, "wi")(x))
        x = nn.Dropout(c.dropout, deterministic=deterministic)(x)
        return _dense(c, c.embed_dim, _MLP_INIT, ("mlp", "embed"), "wo")(x)


class EncoderLayer(nn.Module):
    config: T5Config

    @nn.compact
    def __call__(self, x, bias, mask, deterministic: bool):
        c = self.config
        drop = nn.Dropout(c.dropout, deterministic=deterministic)
        y = RMSNorm(c.dtype, name="pre_attention_layer_norm")(x)
        attention = Attention(c, name="attention")
        x = x + drop(attention(y, *attention.keys_values(y), bias=bias, mask=mask))
        y = RMSNorm(c.dtype, name="pre_mlp_layer_norm")(x)
        x = x + drop(Mlp(c, name="mlp")(y, deterministic))
        return nn.with_logical_constraint(x, ("batch", "length", "embed"))


class Encoder(nn.Module):
    """dtype[B, N, D] embeddings and bool[B, N] mask -> dtype[B, N, D]."""

    config: T5Config

    @nn.compact
    def __call__(self, x, mask, *, deterministic: bool = True):
        c = self.config
        positions = jnp.arange(x.shape[1])
        bias = RelativeBias(c, bidirectional=True, name="relpos_bias")(
            positions, positions
        )
        mask = mask[:, None, None, :]  # every query may look at every real key
        drop = nn.Dropout(c.dropout, deterministic=deterministic)
        x = drop(x)
        layer = nn.remat(EncoderLayer, static_argnums=(4,)) if c.remat else EncoderLayer
        for i in range(c.encoder_layers):
            x = layer(c, name=f"layers_{i}")(x, bias, mask, deterministic)
        return drop(RMSNorm(c.dtype, name="encoder_norm")(x))


@struct.dataclass
class LayerCache:
    """What a decoder layer keeps while decoding: dtype[B, length, H, K] of its own
    (zeros beyond the step), dtype[B, N, H, K] of the encoder's output."""

    key: jax.Array
    value: jax.Array
    memory_key: jax.Array
    memory_value: jax.Array


class DecoderLayer(nn.Module):
    config: T5Config

    def setup(self):
        c = self.config
        self.pre_self_attention_layer_norm = RMSNorm(c.dtype)
        self.self_attention = Attention(c)
        self.pre_cross_attention_layer_norm = RMSNorm(c.dtype)
        self.encoder_decoder_attention = Attention(c)
        self.pre_mlp_layer_norm = RMSNorm(c.dtype)
        self.mlp = Mlp(c)
        self.dropout = nn.Dropout(c.dropout)

    def start(self, memory, length: int) -> LayerCache:
        c = self.config
        own = jnp.zeros((memory.shape[0], length, c.num_heads, c.head_dim), c.dtype)
        return LayerCache(own, own, *self.encoder_decoder_attention.keys_values(memory))

    def __call__(self, x, memory, bias, mask, memory_mask, deterministic: bool):
        """All positions at once; dtype[B, T, D] -> dtype[B, T, D]."""
        drop = lambda y: self.dropout(y, deterministic=deterministic)
        y = self.pre_self_attention_layer_norm(x)
        own = self.self_attention.keys_values(y)
        x = x + drop(self.self_attention(y, *own, bias=bias, mask=mask))
        y = self.pre_cross_attention_layer_norm(x)
        other = self.encoder_decoder_attention.keys_values(memory)
        x = x + drop(self.encoder_decoder_attention(y, *other, mask=memory_mask))
        x = x + drop(self.mlp(self.pre_mlp_layer_norm(x), deterministic))
        return nn.with_logical_constraint(x, ("batch", "length", "embed"))

    def step(self, x, cache: LayerCache, index, bias, mask, memory_mask):
        """One position; dtype[B, 1, D] -> dtype[B, 1, D] and the grown cache."""
        y = self.pre_self_attention_layer_norm(x)
        key, value = self.self_attention.keys_values(y)
        key = jax.lax.dynamic_update_slice_in_dim(cache.key, key, index, axis=1)
        value = jax.lax.dynamic_update_slice_in_dim(cache.value, value, index, axis=1)
        x = x + self.self_attention(y, key, value, bias=bias, mask=mask)
        y = self.pre_cross_attention_layer_norm(x)
        x = x + self.encoder_decoder_attention(
            y, cache.memory_key, cache.memory_value, mask=memory_mask
        )
        x = x + self.mlp(self.pre_mlp_layer_norm(x), True)
        return x, cache.replace(key=key, value=value)


class Decoder(nn.Module):
    """The decoder stack and, in 1.1, its output layer.

    Both ways of running it give float32[B, T, V] logits in 1.1 and
    dtype[B, T, D] hidden states otherwise (`T5` then uses the tied table).
    """

    config: T5Config

    def setup(self):
        c = self.config
        layer = nn.remat(DecoderLayer, static_argnums=(6,)) if c.remat else DecoderLayer
        # flax names the members of a list layers_0, layers_1, ..., as T5X does.
        self.layers = [layer(c) for _ in range(c.decoder_layers)]
        self.relpos_bias = RelativeBias(c, bidirectional=False)
        self.decoder_norm = RMSNorm(c.dtype)
        self.dropout = nn.Dropout(c.dropout)
        if c.gated:
            self.logits_dense = nn.Dense(
                c.vocab_size,
                use_bias=False,
                dtype=jnp.float32,
                kernel_init=_init(_MLP_INIT, "embed", "vocab"),
            )

    def _finish(self, x):
        x = self.decoder_norm(x)
        return self.logits_dense(x) if self.config.gated else x

    def __call__(self, x, memory, memory_mask, *, deterministic: bool = True):
        """Teacher forcing: dtype[B, T, D] embedded inputs, causal."""
        positions = jnp.arange(x.shape[1])
        bias = self.relpos_bias(positions, positions)
        mask = (positions[None, :] <= positions[:, None])[None, None]
        x = self.dropout(x, deterministic=deterministic)
        for layer in self.layers:
            x = layer(
                x, memory, bias, mask, memory_mask[:, None, None, :], deterministic
            )
        return self._finish(self.dropout(x, deterministic=deterministic))

    def start(self, memory, length: int) -> tuple[LayerCache, ...]:
        """An empty cache for decoding up to `length` tokens."""
        return tuple(layer.start(memory, length) for layer in self.layers)

    def step(self, x, cache, index, memory_mask):
        """One step: dtype[B, 1, D] embedded token at int32[] `index`."""
        keys = jnp.arange(cache[0].key.shape[1])
        bias = self.relpos_bias(index[None], keys)
        mask = (keys <= index)[None, None, None]
        grown = []
        for layer, layer_cache in zip(self.layers, cache, strict=True):
            x, layer_cache = layer.step(
                x, layer_cache, index, bias, mask, memory_mask[:, None, None, :]
            )
            grown.append(layer_cache)
        return self._finish(x), tuple(grown)


class T5(nn.Module):
    """Token embedder, encoder and decoder under T5X's names."""

    config: T5Config

    def setup(self):
        c = self.config
        self.token_embedder = nn.Embed(
            c.vocab_size,
            c.embed_dim,
            dtype=c.dtype,
            embedding_init=_init(nn.initializers.normal(1.0), "vocab", "embed"),
        )
        self.encoder = Encoder(c)
        self.decoder = Decoder(c)

    def embed(self, ids):
        """int32[B, L] -> dtype[B, L, D]."""
        return self.token_embedder(ids)

    def encode(self, embeddings, mask, *, deterministic: bool = True):
        """dtype[B, N, D], bool[B, N] (False = padding) -> dtype[B, N, D]."""
        return self.encoder(embeddings, mask, deterministic=deterministic)

    def decode(self, tokens, memory, memory_mask, *, deterministic: bool = True):
        """Teacher forcing.

        Args:
          tokens: int32[B, T], what the decoder should say; it is shifted right here.
          memory, memory_mask: dtype[B, N, D] and bool[B, N].
          deterministic: no dropout.

        Returns:
          float32[B, T, V]: logits of each of `tokens` given those before it.
        """
        inputs = jnp.pad(tokens[:, :-1], ((0, 0), (1, 0)))  # pad is also T5's start
        x = self.decoder(
            self.embed(inputs), memory, memory_mask, deterministic=deterministic
        )
        return self._logits(x)

    def decode_start(self, memory, length: int):
        """The cache before the first `decode_step`."""
        return self.decoder.start(memory, length)

    def decode_step(self, token, cache, index, memory_mask):
        """int32[B] token at int32[] index -> float32[B, V] logits of the next."""
        x, cache = self.decoder.step(
            self.embed(token[:, None]), cache, index, memory_mask
        )
        return self._logits(x)[:, 0], cache

    def _logits(self, x):
        c = self.config
        if c.gated:
            return x
        # The tied table has unit variance, so its logits are scaled down.
        embedding = self.token_embedder.embedding.astype(jnp.float32)
        return x.astype(jnp.float32) @ embedding.T * c.embed_dim**-0.5
