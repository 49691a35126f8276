"""How well an image goes with its prompt, for a score that is read off the image alone.

The cheapest text encoder there is: the embeddings of the prompt's pieces, averaged. A
linear map of the image's features is multiplied by it. The map starts at zero, so that
a score begins as what the image alone says, and whole prompts are dropped in training,
so that it goes on saying so: a hundred prompts are sooner memorised than understood.

Shapes: B batch, G grid side, C channels, L text length, D width.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from rahf.models.partitioning import named

_WIDTH = 64
# Share of the prompts of a batch that training leaves out.
_LEFT_OUT = 0.5


class PromptMatch(nn.Module):
    """Adds to a score's logit how well prompt and image go together."""

    vocab_size: int

    def setup(self):
        normal, zeros = nn.initializers.normal(1.0), nn.initializers.zeros_init()
        self.embedder = nn.Embed(
            self.vocab_size, _WIDTH, embedding_init=named(normal, "vocab", None)
        )
        self.image = nn.Dense(_WIDTH, use_bias=False, kernel_init=zeros)
        self.dropout = nn.Dropout(_LEFT_OUT, broadcast_dims=(1,))

    def read(self, inputs):
        """int32[B, L] pieces (0 = padding) -> float32[B, D] of length 1, or 0 for no
        text."""
        mean = (self.embedder(inputs) * (inputs != 0)[..., None]).sum(axis=1)
        return _unit(mean)

    def __call__(self, features, text, *, deterministic: bool = True):
        """dtype[B, G, G, C] and the float32[B, D] of `read` -> float32[B] logits."""
        image = self.image(_unit(features.mean(axis=(1, 2), dtype=jnp.float32)))
        text = self.dropout(text, deterministic=deterministic)
        return (image * text).sum(axis=-1)


def _unit(x):
    """Scales float32[B, D] to a length of 1."""
    return x * jax.lax.rsqrt(jnp.square(x).sum(axis=-1, keepdims=True) + 1e-6)
