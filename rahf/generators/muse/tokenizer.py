"""The image tokenizer: pixels to a grid of discrete tokens, and back.

A convolutional autoencoder whose latents are rounded: finite scalar quantization
(Mentzer et al., 2023), a vector quantizer with a fixed codebook, the grid of all rounded
vectors. No entry of it can die, so there is neither a commitment loss nor a reset, and
on scenes it is as good as learned vectors (docs/generators.md).

Shapes: B batch, S image side, G = S / stride grid side, Q quantized channels.
"""

import dataclasses
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from rahf.models.partitioning import named

_HE = named(nn.initializers.he_normal(), None, None, "conv_in", "conv_out")
_ZEROS = named(nn.initializers.zeros_init(), None)


@dataclasses.dataclass(frozen=True)
class TokenizerConfig:
    """Hyperparameters of the tokenizer.

    Attributes:
      levels: the number of values of each quantized channel; their product is the size
        of the codebook.
      stride: the side of a token in pixels, a power of 2.
      width: channels at the grid of tokens; finer grids have half as many, and at least
        16.
      blocks: residual blocks at the grid of tokens, of encoder and decoder each.
      dtype: compute dtype; parameters and the quantizer are float32.
    """

    levels: tuple[int, ...] = (8, 8, 8)
    stride: int = 4
    width: int = 64
    blocks: int = 2
    dtype: Any = jnp.float32

    def __post_init__(self):
        if not self.levels or min(self.levels) < 2:
            raise ValueError(
                f"config.model.tokenizer.levels={self.levels}: expected numbers of at "
                "least 2, one a channel"
            )
        if self.stride < 2 or self.stride & (self.stride - 1):
            raise ValueError(
                f"config.model.tokenizer.stride={self.stride}: expected a power of 2"
            )

    @property
    def codes(self) -> int:
        """The number of entries of the codebook."""
        return math.prod(self.levels)

    def width_at(self, halvings: int) -> int:
        """Returns the channels of the grid that is this many halvings of the image."""
        finer = self.stride.bit_length() - 1 - halvings
        return self.width if not finer else max(self.width >> finer, 16)


def quantize(latents, levels: tuple[int, ...]):
    """Rounds latents to the nearest entry of the codebook.

    Gradients pass the rounding as if it was not there (straight-through).

    Args:
      latents: float32[..., Q], unbounded.
      levels: see `TokenizerConfig`.

    Returns:
      float32[..., Q] in [-1, 1]: each channel one of its evenly spaced levels.
    """
    steps = np.asarray(levels, np.float32) - 1.0
    scaled = (jnp.tanh(latents) + 1.0) * 0.5 * steps
    rounded = scaled + jax.lax.stop_gradient(jnp.round(scaled) - scaled)
    return rounded * (2.0 / steps) - 1.0


def to_ids(quantized, levels: tuple[int, ...]):
    """Entries of the codebook, float32[..., Q] -> their numbers, int32[...]."""
    steps = np.asarray(levels, np.float32) - 1.0
    digits = jnp.round((quantized + 1.0) * 0.5 * steps).astype(jnp.int32)
    return (digits * _places(levels)).sum(axis=-1)


def from_ids(ids, levels: tuple[int, ...]):
    """Numbers of entries, int32[...] -> the entries, float32[..., Q]."""
    digits = ids[..., None] // _places(levels) % np.asarray(levels)
    steps = np.asarray(levels, np.float32) - 1.0
    return digits.astype(jnp.float32) * (2.0 / steps) - 1.0


def _places(levels: tuple[int, ...]) -> np.ndarray:
    return np.cumprod([1, *levels[:-1]], dtype=np.int32)


class _Convolution(nn.Module):
    """3x3 convolution, norm, ReLU: dtype[B, H, W, C] -> dtype[B, H', W', F]."""

    features: int
    dtype: Any
    stride: int = 1

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(
            self.features,
            (3, 3),
            strides=(self.stride, self.stride),
            dtype=self.dtype,
            kernel_init=_HE,
            bias_init=_ZEROS,
            name="conv",
        )(x)
        norm = nn.LayerNorm(
            epsilon=1e-6,
            dtype=self.dtype,
            scale_init=named(nn.initializers.ones_init(), "norm"),
            bias_init=named(nn.initializers.zeros_init(), "norm"),
            name="norm",
        )
        return nn.relu(norm(x))


class Residual(nn.Module):
    """Two convolutions beside an identity: dtype[B, H, W, C] -> the same shape."""

    dtype: Any

    @nn.compact
    def __call__(self, x):
        features = x.shape[-1]
        y = _Convolution(features, self.dtype, name="first")(x)
        second = nn.Conv(
            features,
            (3, 3),
            dtype=self.dtype,
            kernel_init=named(
                nn.initializers.variance_scaling(0.1, "fan_in", "normal"),
                *(None, None, "conv_in", "conv_out"),
            ),
            bias_init=_ZEROS,
            name="second",
        )
        return x + second(y)


class ImageEncoder(nn.Module):
    """float32[B, S, S, 3] in [-1, 1] -> latents float32[B, G, G, Q]."""

    config: TokenizerConfig

    @nn.compact
    def __call__(self, images):
        c, x = self.config, images.astype(self.config.dtype)
        for i in range(1, c.stride.bit_length()):
            x = _Convolution(c.width_at(i), c.dtype, stride=2, name=f"down_{i}")(x)
        for i in range(c.blocks):
            x = Residual(c.dtype, name=f"block_{i}")(x)
        return _linear(len(c.levels), jnp.float32, "latents")(x.astype(jnp.float32))


class ImageDecoder(nn.Module):
    """Quantized float32[B, G, G, Q] -> images float32[B, S, S, 3], about [-1, 1]."""

    config: TokenizerConfig

    @nn.compact
    def __call__(self, quantized):
        c = self.config
        x = _linear(c.width, c.dtype, "in")(quantized.astype(c.dtype))
        for i in range(c.blocks):
            x = Residual(c.dtype, name=f"block_{i}")(x)
        for i in range(c.stride.bit_length() - 2, -1, -1):
            features = c.width_at(i) if i else 3
            if i:
                x = _Convolution(4 * features, c.dtype, name=f"up_{i}")(x)
                x = Residual(c.dtype, name=f"fine_{i}")(depth_to_space(x))
                continue
            x = nn.Conv(
                4 * features,
                (3, 3),
                kernel_init=named(
                    nn.initializers.lecun_normal(),
                    *(None, None, "conv_in", "conv_out"),
                ),
                bias_init=_ZEROS,
                name="out",
            )(x.astype(jnp.float32))
        return depth_to_space(x)


def depth_to_space(x):
    """dtype[B, H, W, 4 C] -> dtype[B, 2 H, 2 W, C]: four pixels from one."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height, width, 2, 2, channels // 4)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(
        batch, 2 * height, 2 * width, channels // 4
    )


def _linear(features: int, dtype: Any, name: str) -> nn.Dense:
    return nn.Dense(
        features,
        dtype=dtype,
        kernel_init=named(nn.initializers.lecun_normal(), None, None),
        bias_init=_ZEROS,
        name=name,
    )


class Tokenizer(nn.Module):
    """Images to tokens and back."""

    config: TokenizerConfig

    def setup(self):
        self.encoder = ImageEncoder(self.config)
        self.decoder = ImageDecoder(self.config)

    def __call__(self, images):
        """Returns images as their tokens show them, for training.

        Args:
          images: float32[B, S, S, 3] in [-1, 1].

        Returns:
          float32[B, S, S, 3].
        """
        return self.decoder(quantize(self.encoder(images), self.config.levels))

    def tokens(self, images):
        """float32[B, S, S, 3] in [-1, 1] -> int32[B, G, G]."""
        levels = self.config.levels
        return to_ids(quantize(self.encoder(images), levels), levels)

    def images(self, tokens):
        """int32[B, G, G] -> float32[B, S, S, 3] in [-1, 1]."""
        found = self.decoder(from_ids(tokens, self.config.levels))
        return jnp.clip(found, -1.0, 1.0)
