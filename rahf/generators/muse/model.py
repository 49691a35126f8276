"""Muse: a tokenizer, and a transformer that fills in masked tokens of an image.

The transformer is the encoder of T5 (`rahf.models.t5`), reading image and prompt
together. As in diffusion transformers, a square patch of tokens is one position: 64
pixels have 256 tokens of 4 pixels, but 64 positions, which costs a fraction. Each token
is still masked, predicted and sampled by itself. Before and after the transformer, as in
aMUSEd (Patil et al., 2024), convolutions on the grid of tokens see to what neighbours
show.

Shapes: B batch, G grid side in tokens, P patch side in tokens, W width of a token,
N = (G / P)^2 positions, D width of a position, L text length, C codes.
"""

import dataclasses

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from rahf.generators.muse.tokenizer import (
    Residual,
    Tokenizer,
    TokenizerConfig,
    from_ids,
)
from rahf.models.partitioning import named
from rahf.models.t5 import Encoder
from rahf.models.t5_layers import RMSNorm, T5Config
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
      token_width: W, channels of the convolutions on the grid of tokens.
      token_blocks: how many residual blocks of them come before the transformer, and
        as many after it.
    """

    tokenizer: TokenizerConfig
    t5: T5Config
    image_size: int
    patch: int = 2
    token_width: int = 64
    token_blocks: int = 1

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
        return cls(
            tokenizer,
            t5,
            config.input.image_size,
            patch=m.patch,
            token_width=m.token_width,
            token_blocks=m.token_blocks,
        )


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
        c, width = self.config, self.config.t5.embed_dim
        near = self._convolved(self._embedded(tokens), "in")
        x = self._linear(width, "patch_embedding")(self._to_patches(near))  # [B, N, D]
        position = self.param(
            "position_embedding",
            named(grid_waves(class_token=False), None, None, "embed"),
            (1, x.shape[1], width),
        )
        words = nn.Embed(
            c.t5.vocab_size,
            width,
            dtype=c.t5.dtype,
            embedding_init=named(nn.initializers.normal(1.0), "vocab", "embed"),
            name="text_embedding",
        )(text)
        x = x + position.astype(x.dtype) + self._gist(words, text)[:, None]
        mask = jnp.concatenate(
            [jnp.ones(x.shape[:2], bool), text != 0], axis=1
        )  # [B, N + L]
        both = jnp.concatenate([x, words], axis=1)
        both = Encoder(c.t5, name="encoder")(both, mask, deterministic=deterministic)
        far = self._linear(c.patch**2 * c.token_width, "patches")(both[:, : x.shape[1]])
        return self._logits(self._convolved(near + self._to_tokens(far), "out"))

    @property
    def _codes(self) -> int:
        return self.config.tokenizer.codes

    def _embedded(self, tokens):
        """int32[B, G, G] -> dtype[B, G, G, W]: of each code, and of its values."""
        c = self.config
        masked = tokens == self._codes
        values = from_ids(jnp.where(masked, 0, tokens), c.tokenizer.levels)
        values = jnp.where(masked[..., None], 0.0, values).astype(c.t5.dtype)
        embedding = nn.Embed(
            self._codes + 1,
            c.token_width,
            dtype=c.t5.dtype,
            embedding_init=named(nn.initializers.normal(1.0), "vocab", None),
            name="token_embedding",
        )
        return embedding(tokens) + self._linear(c.token_width, "values")(values)

    def _convolved(self, x, name: str):
        """dtype[B, G, G, W] -> the same; what neighbours show need not be attended to."""
        for i in range(self.config.token_blocks):
            x = Residual(self.config.t5.dtype, name=f"{name}_{i}")(x)
        return x

    def _gist(self, words, text):
        """The mean of a prompt's words, dtype[B, L, D] -> dtype[B, D].

        It is added to every position, so that what is in the picture is known there
        before attention has learned where to look.
        """
        real = (text != 0).astype(words.dtype)[..., None]
        mean = (words * real).sum(axis=1) / jnp.maximum(real.sum(axis=1), 1.0)
        return self._linear(self.config.t5.embed_dim, "gist")(mean)

    def _linear(self, features: int, name: str) -> nn.Dense:
        return nn.Dense(
            features,
            dtype=self.config.t5.dtype,
            kernel_init=named(nn.initializers.lecun_normal(), None, "embed"),
            bias_init=named(nn.initializers.zeros_init(), "embed"),
            name=name,
        )

    def _logits(self, x):
        """dtype[B, G, G, W] -> float32[B, G, G, C].

        The logit of a code is its own plus one of each of its channels' values, so that
        codes that look alike are learned together.
        """
        levels = self.config.tokenizer.levels
        sizes = (self._codes, *levels)
        found = nn.Dense(
            sum(sizes),
            dtype=self.config.t5.dtype,
            kernel_init=named(_LOGITS_INIT, "embed", "vocab"),
            bias_init=named(nn.initializers.zeros_init(), "vocab"),
            name="logits",
        )(RMSNorm(x.dtype, name="logits_norm")(x)).astype(jnp.float32)
        logits, *channels = jnp.split(found, np.cumsum(sizes)[:-1], axis=-1)
        # The first channel of a code varies fastest (rahf.generators.muse.tokenizer).
        by_value = logits.reshape(*x.shape[:-1], *levels[::-1])
        for i, channel in enumerate(channels):
            others = [1] * len(levels)
            others[-1 - i] = levels[i]
            by_value += channel.reshape(*x.shape[:-1], *others)
        return by_value.reshape(logits.shape)

    def _to_patches(self, x):
        """dtype[B, G, G, F] -> dtype[B, (G / P)^2, P^2 F]."""
        batch, grid, patch = len(x), self.config.grid, self.config.patch
        side = grid // patch
        x = x.reshape(batch, side, patch, side, patch, -1)
        return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, side * side, -1)

    def _to_tokens(self, x):
        """dtype[B, (G / P)^2, P^2 F] -> dtype[B, G, G, F]."""
        batch, grid, patch = len(x), self.config.grid, self.config.patch
        side = grid // patch
        x = x.reshape(batch, side, side, patch, patch, -1)
        return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, grid, grid, -1)


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
