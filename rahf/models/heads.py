"""The heads that predict heatmaps and scores from the encoder's feature map.

Each kind has two, with one interface: `paper`, the layers of the first author's
release (widths, kernels and norms as published there), and `light`, at a fraction of
the cost (docs/train.md has numbers). For scores there is `linear` too, for features that
need no more than weighing.

Shapes: B batch, G grid side, D width, S heatmap side.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from rahf.models.partitioning import named
from rahf.models.t5_layers import RMSNorm

_CONV_INIT = named(nn.initializers.he_normal(), None, None, "conv_in", "conv_out")


@dataclasses.dataclass(frozen=True)
class HeadConfig:
    """Hyperparameters of one head.

    Attributes:
      name: "paper" or "light"; of a score, also "linear".
      width: width of the widest layer; 0 = the encoder's width.
      dtype: compute dtype; norms and the sigmoid are float32.
      dropout: dropout rate before a linear head; the others have none.
    """

    name: str = "paper"
    width: int = 0
    dropout: float = 0.0
    dtype: Any = jnp.float32


def _conv(c: HeadConfig, width: int, kernel: int = 3, name=None) -> nn.Conv:
    return nn.Conv(
        width,
        (kernel, kernel),
        dtype=c.dtype,
        kernel_init=_CONV_INIT,
        name=name,
    )


def _norm(c: HeadConfig, name=None) -> RMSNorm:
    return RMSNorm(c.dtype, epsilon=1e-8, name=name)


class _Deconv(nn.Module):
    """3x3 transposed convolution, stride 2: [B, G, G, D] -> [B, 2G, 2G, width].

    Written as an input-dilated convolution, so that a PyTorch kernel with padding 1 and
    output padding 1 fits after a flip.
    """

    config: HeadConfig
    width: int

    @nn.compact
    def __call__(self, x):
        c = self.config
        kernel = self.param(
            "kernel",
            _CONV_INIT,
            (3, 3, x.shape[-1], self.width),
            jnp.float32,
        )
        bias = self.param(
            "bias", nn.initializers.zeros_init(), (self.width,), jnp.float32
        )
        x = jax.lax.conv_general_dilated(
            x.astype(c.dtype),
            kernel.astype(c.dtype),
            window_strides=(1, 1),
            padding=((1, 2), (1, 2)),
            lhs_dilation=(2, 2),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        return x + bias.astype(c.dtype)


def _resize(x, size: int):
    """Bilinear: [B, h, w, D] -> [B, size, size, D]."""
    if x.shape[1:3] == (size, size):
        return x
    return jax.image.resize(x, (x.shape[0], size, size, x.shape[-1]), "bilinear")


class PaperHeatmapHead(nn.Module):
    """Convolutions, then four deconvolution stages up to full resolution.

    Call:
      x: dtype[B, G, G, D].
      size: S; the four stages give 16 * G, which is resized if it is not S.

    Returns:
      float32[B, S, S] in [0, 1].
    """

    config: HeadConfig

    @nn.compact
    def __call__(self, x, size: int):
        c = self.config
        width = c.width or x.shape[-1]
        for i, w in enumerate((width, width // 2)):
            x = _norm(c, f"stem_norm_{i}")(nn.relu(_conv(c, w, name=f"stem_{i}")(x)))
        for i, w in enumerate((width, width // 2, width // 2, width // 4)):
            x = _Deconv(c, w, name=f"deconv_{i}")(x)
            x = nn.relu(_norm(c, f"deconv_norm_{i}")(x))
            y = _conv(c, w, name=f"residual_{i}_0")(x)
            y = nn.relu(_norm(c, f"residual_norm_{i}_0")(y))
            y = _conv(c, w, name=f"residual_{i}_1")(y)
            x = nn.relu(x + _norm(c, f"residual_norm_{i}_1")(y))
        x = nn.relu(_conv(c, width // 4, name="last")(x))
        x = _conv(c, 1, name="out")(x).astype(jnp.float32)
        return jax.nn.sigmoid(_resize(x, size)[..., 0])


class LightHeatmapHead(nn.Module):
    """Predicts at four times the grid's resolution and upsamples the logits.

    Labels are disks of radius 1/20 of the height, so no finer detail is lost: at 384
    pixels and 24x24 patches the logits are 96x96. The step from grid to sub-grid is a
    matrix product and a reshape (depth to space), which every accelerator does at full
    speed. It need not fear transposed convolutions, though: on a CPU an operation
    in them costs 1.7 times one in a plain convolution, not four times.

    Call and returns: as `PaperHeatmapHead`.
    """

    config: HeadConfig
    upsampling: int = 4

    @nn.compact
    def __call__(self, x, size: int):
        c, r = self.config, self.upsampling
        width = (c.width or x.shape[-1]) // 2
        x = nn.relu(_norm(c, "stem_norm")(_conv(c, width, name="stem")(x)))
        fine = max(width // 8, 8)
        x = _conv(c, fine * r * r, kernel=1, name="expand")(x)
        x = depth_to_space(x, r)  # [B, rG, rG, fine]
        x = nn.relu(_norm(c, "fine_norm")(x))
        x = nn.relu(_conv(c, fine, name="fine")(x))
        x = _conv(c, 1, kernel=1, name="out")(x).astype(jnp.float32)
        return jax.nn.sigmoid(_resize(x, size)[..., 0])


def depth_to_space(x, r: int):
    """[B, h, w, r * r * C] -> [B, r * h, r * w, C]."""
    batch, height, width, depth = x.shape
    x = x.reshape(batch, height, width, r, r, depth // (r * r))
    x = x.transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(batch, height * r, width * r, depth // (r * r))


def _mlp(c: HeadConfig, x, widths):
    for i, width in enumerate(widths):
        x = nn.Dense(width, dtype=c.dtype, name=f"linear_{i}")(x)
        x = nn.relu(x) if i < len(widths) - 1 else x
    return jax.nn.sigmoid(x.astype(jnp.float32)[..., 0])


class PaperScoreHead(nn.Module):
    """Six narrowing convolutions, then three linear layers.

    Call: x, dtype[B, G, G, D]. Returns: float32[B] in [0, 1].
    """

    config: HeadConfig

    @nn.compact
    def __call__(self, x, *, deterministic: bool = True):
        c = self.config
        width = c.width or x.shape[-1]
        for i, divisor in enumerate((1, 2, 4, 8, 16, 64)):
            x = _conv(c, max(width // divisor, 1), name=f"conv_{i}")(x)
            x = nn.relu(_norm(c, f"norm_{i}")(x))
        x = x.transpose(0, 3, 1, 2).reshape(x.shape[0], -1)  # channel-major
        return _mlp(c, x, (512, 128, 1))


class LightScoreHead(nn.Module):
    """Two convolutions, mean and maximum over the grid, two linear layers.

    The mean because damage adds up over an image, the maximum because one bad spot
    spoils it. Call and returns: as `PaperScoreHead`.
    """

    config: HeadConfig

    @nn.compact
    def __call__(self, x, *, deterministic: bool = True):
        c = self.config
        width = (c.width or x.shape[-1]) // 2
        for i in range(2):
            x = nn.relu(_norm(c, f"norm_{i}")(_conv(c, width, name=f"conv_{i}")(x)))
        mean = x.mean(axis=(1, 2), dtype=jnp.float32).astype(c.dtype)
        x = jnp.concatenate([mean, x.max(axis=(1, 2))], axis=-1)
        return _mlp(c, x, (128, 1))


class LinearScoreHead(nn.Module):
    """The mean over the grid, dropout, one linear layer.

    What published networks are fine-tuned with: few parameters start fresh, and they
    start at zero, so that the first steps do not disturb what the network knows.
    Call and returns: as `PaperScoreHead`; `addend`, float32[B], is added to the logits,
    and `deterministic` disables dropout.
    """

    config: HeadConfig

    @nn.compact
    def __call__(self, x, addend=0.0, *, deterministic: bool = True):
        c = self.config
        x = x.mean(axis=(1, 2), dtype=jnp.float32)
        x = nn.Dropout(c.dropout, deterministic=deterministic)(x)
        zeros = nn.initializers.zeros_init()
        x = nn.Dense(1, kernel_init=zeros, name="linear")(x)
        return jax.nn.sigmoid(x[..., 0] + addend)


HEATMAP_HEADS = {"paper": PaperHeatmapHead, "light": LightHeatmapHead}
SCORE_HEADS = {
    "paper": PaperScoreHead,
    "light": LightScoreHead,
    "linear": LinearScoreHead,
}
