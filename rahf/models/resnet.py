"""ResNets, convolutional networks whose published weights most people have.

Two kinds. `resnet50`, `resnet101`: He et al., "Deep Residual Learning for Image
Recognition" (2016), in the form 1.5 of torchvision, timm and Hugging Face: the stride is
that of the 3x3 convolution, and batch norm follows each convolution. `bit_r50x1`,
`bit_r101x1`: Kolesnikov et al., "Big Transfer" (2020): norms before convolutions, group
norm, and kernels that are standardised before use. Both pad symmetrically, which
TensorFlow's SAME does not at stride 2.

Shapes: B batch, S image side, K kernel side, C channels.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from rahf.models.batch_norm import BatchNorm
from rahf.models.partitioning import named

_HE = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
_ONES, _ZEROS = nn.initializers.ones_init(), nn.initializers.zeros_init()
# Mean and deviation of ImageNet's pixels in [0, 1], as torchvision's weights expect.
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_EPSILON = 1e-5  # of batch and group norms
_KERNEL_EPSILON = 1e-10  # of standardised kernels


@dataclasses.dataclass(frozen=True)
class ResNetConfig:
    """Hyperparameters of a network.

    Attributes:
      depths: the number of units of each stage, of which there are four.
      width: channels of the first convolution, and of the 3x3 ones of the first stage;
        each stage doubles them, and its output has four times as many.
      big_transfer: norms before convolutions, group norm and standardised kernels.
      groups: of a group norm.
    """

    depths: tuple[int, ...] = (3, 4, 6, 3)
    width: int = 64
    big_transfer: bool = False
    groups: int = 32


VERSIONS = {
    "resnet50": ResNetConfig(),
    "resnet101": ResNetConfig(depths=(3, 4, 23, 3)),
    "bit_r50x1": ResNetConfig(big_transfer=True),
    "bit_r101x1": ResNetConfig(depths=(3, 4, 23, 3), big_transfer=True),
}


class _Convolution(nn.Module):
    """A convolution without bias that pads (K - 1) / 2 pixels on every side."""

    channels: int
    kernel: int
    stride: int
    dtype: Any
    standardised: bool = False

    @nn.compact
    def __call__(self, x):
        shape = (self.kernel, self.kernel, x.shape[-1], self.channels)
        init = named(_HE, None, None, "conv_in", "conv_out")
        if self.standardised:
            # Not called "kernel", which prediction casts to its dtype beforehand.
            kernel = self.param("raw_kernel", init, shape, jnp.float32)
            kernel = kernel - kernel.mean((0, 1, 2))
            variance = jnp.square(kernel).mean((0, 1, 2))
            kernel = kernel * jax.lax.rsqrt(variance + _KERNEL_EPSILON)
        else:
            kernel = self.param("kernel", init, shape, jnp.float32)
        pad = (self.kernel - 1) // 2
        return jax.lax.conv_general_dilated(
            x,
            kernel.astype(self.dtype),
            (self.stride, self.stride),
            ((pad, pad), (pad, pad)),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )


class _NormedConvolution(nn.Module):
    """A convolution and a batch norm."""

    channels: int
    kernel: int
    stride: int
    dtype: Any
    scale_init: Any = _ONES

    @nn.compact
    def __call__(self, x):
        shape = self.channels, self.kernel, self.stride
        x = _Convolution(*shape, self.dtype, name="conv")(x)
        return BatchNorm(self.dtype, _EPSILON, self.scale_init, name="norm")(x)


class _Unit(nn.Module):
    """A residual bottleneck with batch norm."""

    width: int
    stride: int
    dtype: Any

    @nn.compact
    def __call__(self, x):
        w, s, dtype = self.width, self.stride, self.dtype
        y = nn.relu(_NormedConvolution(w, 1, 1, dtype, name="a")(x))
        y = nn.relu(_NormedConvolution(w, 3, s, dtype, name="b")(y))
        # A fresh unit is the identity (Goyal et al., 2017).
        y = _NormedConvolution(4 * w, 1, 1, dtype, _ZEROS, name="c")(y)
        if x.shape != y.shape:
            x = _NormedConvolution(4 * w, 1, s, dtype, name="shortcut")(x)
        return nn.relu(x + y)


def _group_norm(groups: int, dtype: Any, name: str) -> nn.GroupNorm:
    return nn.GroupNorm(
        num_groups=groups,
        epsilon=_EPSILON,
        dtype=dtype,
        scale_init=named(_ONES, "conv_out"),
        bias_init=named(_ZEROS, "conv_out"),
        name=name,
    )


class _BigTransferPart(nn.Module):
    """What precedes a convolution of `_BigTransferUnit`, and the convolution.

    Call: dtype[B, H, W, C] -> the result, and the normalised input.
    """

    channels: int
    kernel: int
    stride: int
    groups: int
    dtype: Any

    @nn.compact
    def __call__(self, x):
        x = nn.relu(_group_norm(self.groups, self.dtype, "norm")(x))
        shape = self.channels, self.kernel, self.stride
        return _Convolution(*shape, self.dtype, True, name="conv")(x), x


class _BigTransferUnit(nn.Module):
    """A residual bottleneck whose norms precede its convolutions."""

    width: int
    stride: int
    groups: int
    dtype: Any

    @nn.compact
    def __call__(self, x):
        w, rest = self.width, (self.groups, self.dtype)
        y, normalised = _BigTransferPart(w, 1, 1, *rest, name="a")(x)
        if self.stride > 1 or x.shape[-1] != 4 * w:
            shortcut = _Convolution(
                4 * w, 1, self.stride, self.dtype, True, name="shortcut"
            )
            x = shortcut(normalised)
        y, _ = _BigTransferPart(w, 3, self.stride, *rest, name="b")(y)
        y, _ = _BigTransferPart(4 * w, 1, 1, *rest, name="c")(y)
        return x + y


class ResNet(nn.Module):
    """Returns the last feature map of each resolution.

    Call: float[B, S, S, 3] in [-1, 1], any S -> {stride: dtype[B, S / stride,
    S / stride, C]} for strides 2, 4, 8, 16 and 32; sides are rounded up.
    """

    version: str
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images):
        c, dtype = VERSIONS[self.version], self.dtype
        if not c.big_transfer:  # BiT's weights expect [-1, 1]
            images = ((images + 1) / 2 - jnp.array(_MEAN)) / jnp.array(_DEVIATION)
        x = images.astype(dtype)
        if c.big_transfer:
            x = _Convolution(c.width, 7, 2, dtype, True, name="first")(x)
            # Pads with zeros, though there may be less.
            x, padding = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))), (0, 0)
            maps = {2: x[:, 1:-1, 1:-1]}
        else:
            x = nn.relu(_NormedConvolution(c.width, 7, 2, dtype, name="first")(x))
            maps, padding = {2: x}, (1, 1)
        x = nn.max_pool(x, (3, 3), (2, 2), (padding, padding))  # pyright: ignore
        for stage, depth in enumerate(c.depths):
            width = c.width << stage
            for number in range(depth):
                stride = 2 if stage and not number else 1
                name = f"stage{stage + 1}_unit_{number}"
                if c.big_transfer:
                    x = _BigTransferUnit(width, stride, c.groups, dtype, name=name)(x)
                else:
                    x = _Unit(width, stride, dtype, name=name)(x)
            maps[4 << stage] = x
        if c.big_transfer:
            maps[32] = nn.relu(_group_norm(c.groups, dtype, "last")(x))
        return maps
