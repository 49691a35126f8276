"""The T5 encoder-decoder, with parameters named as in T5X's `examples/t5`.

Raffel et al., "Exploring the Limits of Transfer Learning" (2020): the first release
(ReLU, tied output embedding) and 1.1 (gated GELU, separate output layer). The encoder
takes embeddings, not ids, so that image tokens can precede the text.

Shapes: B batch, N encoder length, T decoder length, D embed, H heads, K head_dim,
V vocabulary.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct

from rahf.models.partitioning import constrain, named
from rahf.models.remat import policy_of
from rahf.models.scanned_layers import is_scanned, scan_layers
from rahf.models.t5_layers import (
    MLP_INIT,
    Attention,
    Mlp,
    RelativeBias,
    RMSNorm,
    T5Config,
)


class EncoderLayer(nn.Module):
    """dtype[B, N, D] and bias float[1, H, N, N] -> dtype[B, N, D]; the mask is
    bool[B, 1, 1, N]."""

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
        return constrain(x, "batch", "length", "embed")


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
        mask = mask[:, None, None, :]  # every query attends to every real key
        drop = nn.Dropout(c.dropout, deterministic=deterministic)
        x = drop(x)
        names = [f"layers_{i}" for i in range(c.encoder_layers)]
        if is_scanned(self):
            layer = EncoderLayer(c, parent=None)
            x = scan_layers(
                self, layer, names, x, bias, mask, deterministic=deterministic
            )
        else:
            layer = EncoderLayer
            if c.remat:
                policy = policy_of(c.remat)
                layer = nn.remat(layer, static_argnums=(4,), policy=policy)
            for name in names:
                x = layer(c, name=name)(x, bias, mask, deterministic)
        return drop(RMSNorm(c.dtype, name="encoder_norm")(x))


class LayerCache(struct.PyTreeNode):
    """Keys and values a decoder layer keeps while decoding: dtype[B, length, H, K] of
    its own, dtype[B, N, H, K] of the encoder's output."""

    key: jax.Array
    value: jax.Array
    memory_key: jax.Array
    memory_value: jax.Array


class DecoderLayer(nn.Module):
    """Attends to the tokens so far, then to the encoder's output: all T positions at
    once, or a few at a time with a cache."""

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
        """Returns an empty cache of `length` positions; `memory` is dtype[B, N, D]."""
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
        return constrain(x, "batch", "length", "embed")

    def step(self, x, cache: LayerCache, index, bias, mask, memory_mask):
        """The next W positions; dtype[B, W, D] -> dtype[B, W, D] and the cache."""
        write = jax.vmap(
            lambda old, new, at: jax.lax.dynamic_update_slice_in_dim(
                old, new, at, axis=0
            )
        )
        y = self.pre_self_attention_layer_norm(x)
        key, value = self.self_attention.keys_values(y)
        key, value = write(cache.key, key, index), write(cache.value, value, index)
        x = x + self.self_attention(y, key, value, bias=bias, mask=mask)
        y = self.pre_cross_attention_layer_norm(x)
        x = x + self.encoder_decoder_attention(
            y, cache.memory_key, cache.memory_value, mask=memory_mask
        )
        x = x + self.mlp(self.pre_mlp_layer_norm(x), True)
        return x, cache.replace(key=key, value=value)


class Decoder(nn.Module):
    """The decoder stack and, in 1.1, its output layer.

    `__call__` and `step` both return float32[B, T, V] logits in 1.1 and dtype[B, T, D]
    hidden states otherwise (`T5` then uses the tied table).
    """

    config: T5Config

    def setup(self):
        c = self.config
        layer = DecoderLayer
        if c.remat:
            layer = nn.remat(layer, static_argnums=(6,), policy=policy_of(c.remat))
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
                kernel_init=named(MLP_INIT, "embed", "vocab"),
            )

    def _finish(self, x):
        x = self.decoder_norm(x)
        return self.logits_dense(x) if self.config.gated else x

    def __call__(self, x, memory, memory_mask, *, deterministic: bool = True):
        """Causal teacher forcing on dtype[B, T, D] embedded inputs."""
        positions = jnp.arange(x.shape[1])
        bias = self.relpos_bias(positions, positions)
        mask = (positions[None, :] <= positions[:, None])[None, None]
        x = self.dropout(x, deterministic=deterministic)
        shared = memory, bias, mask, memory_mask[:, None, None, :]
        if is_scanned(self):
            layer = DecoderLayer(self.config, parent=None)
            names = [f"layers_{i}" for i in range(self.config.decoder_layers)]
            x = scan_layers(self, layer, names, x, *shared, deterministic=deterministic)
        else:
            for layer in self.layers:
                x = layer(x, *shared, deterministic)
        return self._finish(self.dropout(x, deterministic=deterministic))

    def start(self, memory, length: int) -> tuple[LayerCache, ...]:
        """Returns an empty cache for decoding up to `length` tokens."""
        return tuple(layer.start(memory, length) for layer in self.layers)

    def step(self, x, cache, index, memory_mask):
        """The next positions, of dtype[B, W, D] embedded tokens from int32[B] `index`
        on."""
        keys = jnp.arange(cache[0].key.shape[1])
        queries = index[:, None] + jnp.arange(x.shape[1])  # [B, W]
        bias = self.relpos_bias(queries, keys)
        mask = (keys <= queries[..., None])[:, None]
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
            embedding_init=named(nn.initializers.normal(1.0), "vocab", "embed"),
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
        """Computes logits with teacher forcing.

        Args:
          tokens: int32[B, T], the target tokens, not yet shifted.
          memory, memory_mask: dtype[B, N, D] and bool[B, N].
          deterministic: whether to disable dropout.

        Returns:
          float32[B, T, V]: the logits of each token given those before it.
        """
        inputs = jnp.pad(tokens[:, :-1], ((0, 0), (1, 0)))  # T5 starts with padding
        x = self.decoder(
            self.embed(inputs), memory, memory_mask, deterministic=deterministic
        )
        return self._logits(x)

    def decode_start(self, memory, length: int):
        """Returns the cache for the first `decode_step`."""
        return self.decoder.start(memory, length)

    def decode_step(self, tokens, cache, index, memory_mask):
        """Reads the next W tokens of each text.

        Args:
          tokens: int32[B, W], the input of the decoder: it starts with padding.
          cache: what `decode_start` or the last step returned. What it holds of
            positions from `index` on is ignored and replaced, so that a text may be
            taken up again from an earlier place.
          index: int32[B], the position of the first token; index + W must not be
            beyond the cache's length.
          memory_mask: bool[B, N].

        Returns:
          float32[B, W, V], the logits of the token that follows each, and the new
          cache.
        """
        x, cache = self.decoder.step(self.embed(tokens), cache, index, memory_mask)
        return self._logits(x), cache

    def _logits(self, x):
        c = self.config
        if c.gated:
            return x
        # The tied table has unit variance, so its logits are scaled down.
        embedding = self.token_embedder.embedding.astype(jnp.float32)
        return x.astype(jnp.float32) @ embedding.T * c.embed_dim**-0.5
