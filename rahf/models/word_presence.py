"""How much an image shows each piece of a text, computed before the encoder.

An encoder trained from scratch has to discover that "red" in the prompt and red in the
image are the same thing. Neither alone predicts the answer, so for a hundred thousand
examples it learns nothing (docs/results_log.md). Here the comparison is built in, piece by
piece as in FILIP (Yao et al., 2022), and its result is added to the piece's embedding.
`Kind.WORD_PRESENCE` teaches it from prompts and their misaligned words, as word
detectors are taught from captions (Fang et al., "From Captions to Visual Concepts and
Back", 2015). Published checkpoints have no weights for it.

Shapes: B batch, N image tokens, L text length, V vocabulary, D embed.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from rahf.models.partitioning import named

# Sharpness of the soft maximum over image tokens: a token equal to a piece counts
# 2 sqrt(D), a random one 0 +- 2.
_SHARPNESS = 2.0
# Initial bias of the logits: any one prompt has few of the vocabulary's pieces.
_RARE = -4.0


def _unit(x):
    """Returns float32[..., D], scaled to a root mean square of 1."""
    x = x.astype(jnp.float32)
    return x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + 1e-6)


def presence(patches, pieces):
    """Compares pieces with an image.

    Args:
      patches: dtype[B, N, D], image tokens.
      pieces: dtype[B, L, D] or dtype[V, D], embeddings of text.

    Returns:
      float32[B, L or V]: the soft maximum of the similarity over image tokens.
    """
    patches, pieces = _unit(patches), _unit(pieces)
    scale = _SHARPNESS * patches.shape[-1] ** -0.5
    similar = scale * patches @ pieces.swapaxes(-1, -2)  # [B, N, L]
    return jax.nn.logsumexp(similar, axis=1) - jnp.log(patches.shape[1])


class WordPresence(nn.Module):
    """Adds to each piece of a text how much the image shows it."""

    vocab_size: int
    embed_dim: int

    def setup(self):
        normal, rare = nn.initializers.normal(1.0), nn.initializers.constant(_RARE)
        self.direction = self.param(
            "direction", named(normal, "embed"), (self.embed_dim,), jnp.float32
        )
        self.bias = self.param(
            "bias", named(rare, "vocab"), (self.vocab_size,), jnp.float32
        )

    def __call__(self, patches, embedded):
        """dtype[B, N, D] image tokens, dtype[B, L, D] text -> dtype[B, L, D]."""
        found = presence(patches, embedded)[..., None] * self.direction
        return embedded + found.astype(embedded.dtype)

    def shown(self, patches, table):
        """Returns the logits that the image shows each piece of the vocabulary.

        dtype[B, N, D] image tokens, float32[V, D] embeddings -> float32[B, V].
        """
        return presence(patches, table) + self.bias
