"""Muse: a tokenizer, and a transformer that fills in masked tokens of an image.

The transformer is the encoder of T5 (`rahf.models.t5`), reading image and prompt
together. As in diffusion transformers, a square patch of tokens is one position: 64
pixels have 256 tokens of 4 pixels, but 64 positions, which costs a fraction. Each token
is still masked, predicted and sampled by itself.

Shapes: B batch, G grid side in tokens, P patch side in tokens, L text length, D width,
C codes.
"""

import dataclasses

import flax.linen as nn
import jax.numpy as jnp

from rahf.generators.muse.tokenizer import Tokenizer, TokenizerConfig
from rahf.models.partitioning import named
from rahf.models.t5 import Encoder
from rahf.models.t5_layers import T5Config
from rahf.models.vit_init import grid_waves

# Small, so that training begins with all tokens about equally probable; not zero, of
# which a step that is relative to the size of a matrix would make nothing.
_LOGITS_INIT = nn.initializers.variance_scaling(0.01, "fan_in", "truncated_normal")


@dataclasses.dataclass(frozen=True)
class MuseConfig:
    """Hyperparameters of the generator.

    Attributes:
      tokenizer: the tokenizer.
      t5: the sizes of the transformer, of which there is an encoder alone.
      image_size: S, the side of an image in pixels.
      patch: P.
    """

    tokenizer: TokenizerConfig
    t5: T5Config
    image_size: int
    patch: int = 2

    def __post_init__(self):
        position = self.tokenizer.stride * self.patch
        if self.image_size % position:
            raise ValueError(
                f"config.input.image_size={self.image_size} must be a multiple of "
                f"{position}, config.model.tokenizer.stride={self.tokenizer.stride} "
                f"times config.model.patch={self.patch}"
            )

    @property
    def grid(self) -> int:
        """G, the tokens along a side of an image."""
        return self.image_size // self.tokenizer.stride

    @classmethod
    def from_config(cls, config, *, training: bool = False) -> "MuseConfig":
        """Returns the hyperparameters in a training config.

        Args:
          config: a config such as configs/muse_scenes.py.
          training: whether dropout applies.
        """
        m = config.model
        dtype = jnp.dtype(m.dtype)
        sizes = m.tokenizer.to_dict()
        levels = tuple(sizes.pop("levels"))
        t5 = T5Config(
            **m.t5.to_dict(),
            decoder_layers=0,
            dropout=m.dropout if training else 0.0,
            dtype=dtype,
        )
        tokenizer = TokenizerConfig(levels, **sizes, dtype=dtype)
        return cls(tokenizer, t5, config.input.image_size, m.patch)


class Transformer(nn.Module):
    """Masked tokens and a prompt -> the distribution of each token."""

    config: MuseConfig

    @nn.compact
    def __call__(self, tokens, text, *, deterministic: bool = True):
        """Computes logits.

        Args:
          tokens: int32[B, G, G], C where a token is masked.
          text: int32[B, L], the pieces of the prompt, 0 = padding; all 0 leaves the
            prompt out.
          deterministic: whether to disable dropout.

        Returns:
          float32[B, G, G, C].
        """
        c, width, codes = self.config, self.config.t5.embed_dim, self._codes
        x = self._patches(tokens)  # [B, N, D]
        position = self.param(
            "position_embedding",
            named(grid_waves(class_token=False), None, None, "embed"),
            (1, x.shape[1], width),
        )
        x = x + position.astype(x.dtype)
        words = nn.Embed(
            c.t5.vocab_size,
            width,
            dtype=c.t5.dtype,
            embedding_init=named(nn.initializers.normal(1.0), "vocab", "embed"),
            name="text_embedding",
        )(text)
        mask = jnp.concatenate(
            [jnp.ones(x.shape[:2], bool), text != 0], axis=1
        )  # [B, N + L]
        both = jnp.concatenate([x, words], axis=1)
        both = Encoder(c.t5, name="encoder")(both, mask, deterministic=deterministic)
        logits = nn.Dense(
            c.patch**2 * codes,
            dtype=c.t5.dtype,
            kernel_init=named(_LOGITS_INIT, "embed", "vocab"),
            bias_init=named(nn.initializers.zeros_init(), "vocab"),
            name="logits",
        )(both[:, : x.shape[1]])
        return self._tokens(logits.astype(jnp.float32))

    @property
    def _codes(self) -> int:
        return self.config.tokenizer.codes

    def _patches(self, tokens):
        """int32[B, G, G] -> dtype[B, (G / P)^2, D]."""
        c, width, patch = self.config, self.config.t5.embed_dim, self.config.patch
        embedded = nn.Embed(
            self._codes + 1,
            width // patch**2,
            dtype=c.t5.dtype,
            embedding_init=named(nn.initializers.normal(1.0), "vocab", None),
            name="token_embedding",
        )(tokens)
        batch, side = len(tokens), c.grid // patch
        x = embedded.reshape(batch, side, patch, side, patch, -1)
        x = x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, side * side, -1)
        return nn.Dense(
            width,
            dtype=c.t5.dtype,
            kernel_init=named(nn.initializers.lecun_normal(), None, "embed"),
            bias_init=named(nn.initializers.zeros_init(), "embed"),
            name="patch_embedding",
        )(x)

    def _tokens(self, logits):
        """float32[B, (G / P)^2, P^2 C] -> float32[B, G, G, C]."""
        c, patch = self.config, self.config.patch
        batch, side = len(logits), c.grid // patch
        x = logits.reshape(batch, side, side, patch, patch, self._codes)
        return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, c.grid, c.grid, self._codes)


class Muse(nn.Module):
    """The generator; its tokenizer is trained first, and by itself."""

    config: MuseConfig

    def setup(self):
        self.tokenizer = Tokenizer(self.config.tokenizer)
        self.transformer = Transformer(self.config)

    def __call__(self, images, text):
        """Runs every part once, to initialise them."""
        self.tokenizer(images)
        return self.logits(self.tokens(images), text)

    def reconstruct(self, images):
        """float32[B, S, S, 3] in [-1, 1] -> the same, as the tokenizer shows them."""
        return self.tokenizer(images)

    def tokens(self, images):
        """float32[B, S, S, 3] in [-1, 1] -> int32[B, G, G]."""
        return self.tokenizer.tokens(images)

    def images(self, tokens):
        """int32[B, G, G] -> float32[B, S, S, 3] in [-1, 1]."""
        return self.tokenizer.images(tokens)

    def logits(self, tokens, text, *, deterministic: bool = True):
        """Returns the logits of `Transformer`."""
        return self.transformer(tokens, text, deterministic=deterministic)
