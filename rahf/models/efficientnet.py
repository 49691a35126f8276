"""EfficientNet-Lite, convolutional networks that ImageNet has taught to see.

Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks"
(2019), in the form that TensorFlow published in 2020 for small devices: without
squeeze-and-excitation, with ReLU6, and with a first and a last layer of fixed width.
Convolutions pad as TensorFlow does, by one pixel more below and to the right where the
number is odd.

Shapes: B batch, S image side, C channels.
"""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from rahf.models import depthwise
from rahf.models.batch_norm import BatchNorm
from rahf.models.partitioning import named

#: Multipliers of width and depth, by version (the published table).
VERSIONS = {
    "efficientnet_lite0": (1.0, 1.0),
    "efficientnet_lite1": (1.0, 1.1),
    "efficientnet_lite2": (1.1, 1.2),
}
# (repeats, kernel, stride, expansion, channels) of each stage of version 0.
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_FIRST, _LAST = 32, 1280
_EPSILON = 1e-3
_HE = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


@dataclasses.dataclass(frozen=True)
class Block:
    """A mobile inverted bottleneck.

    Attributes:
      kernel: side of the depthwise convolution.
      stride: its stride.
      expansion: how many times as many channels it works on.
      channels: the channels of its output.
    """

    kernel: int
    stride: int
    expansion: int
    channels: int


def list_blocks(version: str) -> list[Block]:
    """Returns the blocks of one of `VERSIONS`, in order."""
    width, depth = VERSIONS[version]
    found = []
    for number, (repeats, kernel, stride, expansion, channels) in enumerate(_STAGES):
        if 0 < number < len(_STAGES) - 1:  # the ends are not repeated more often
            repeats = math.ceil(repeats * depth)
        channels = _round(channels * width)
        for repeat in range(repeats):
            step = stride if repeat == 0 else 1
            found.append(Block(kernel, step, expansion, channels))
    return found


def _round(channels: float) -> int:
    """Rounds to a multiple of eight, and not down by more than a tenth."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


class _Depthwise(nn.Module):
    """A convolution of each channel by itself."""

    kernel: int
    stride: int
    dtype: Any

    @nn.compact
    def __call__(self, x):
        shape = (self.kernel, self.kernel, 1, x.shape[-1])
        init = named(_HE, None, None, None, "conv_out")
        kernel = self.param("kernel", init, shape, jnp.float32)
        return depthwise.convolve(x, kernel.astype(self.dtype), self.stride)


class _Convolution(nn.Module):
    """A convolution and a batch norm, then ReLU6 if `active`; `channels` None is
    depthwise."""

    channels: int | None
    kernel: int
    dtype: Any
    stride: int = 1
    active: bool = True

    @nn.compact
    def __call__(self, x):
        if self.channels is None:
            convolve = _Depthwise(self.kernel, self.stride, self.dtype, name="conv")
        else:
            convolve = nn.Conv(
                self.channels,
                (self.kernel, self.kernel),
                strides=self.stride,
                padding="SAME",
                use_bias=False,
                dtype=self.dtype,
                kernel_init=named(_HE, None, None, "conv_in", "conv_out"),
                name="conv",
            )
        x = BatchNorm(self.dtype, _EPSILON, name="norm")(convolve(x))
        return jnp.clip(x, 0, 6) if self.active else x


class _Bottleneck(nn.Module):
    block: Block
    dtype: Any

    @nn.compact
    def __call__(self, x):
        b, inputs = self.block, x
        if b.expansion > 1:
            wide = b.expansion * x.shape[-1]
            x = _Convolution(wide, 1, self.dtype, name="expand")(x)
        x = _Convolution(None, b.kernel, self.dtype, b.stride, name="depthwise")(x)
        x = _Convolution(b.channels, 1, self.dtype, active=False, name="project")(x)
        return x + inputs if x.shape == inputs.shape else x


class EfficientNetLite(nn.Module):
    """Returns the last feature map of each resolution.

    Call: float[B, S, S, 3] in [-1, 1], any S -> {stride: dtype[B, S / stride,
    S / stride, C]} for strides 2, 4, 8, 16 and 32; sides are rounded up.

    Attributes:
      version: one of `VERSIONS`.
      dtype: compute dtype; parameters are float32.
      top: whether the map of stride 32 is that of the last layer, of 1,280 channels,
        whose mean over the image ImageNet's classes are read from.
    """

    version: str
    dtype: Any = jnp.float32
    top: bool = False

    @nn.compact
    def __call__(self, images):
        # [-1, 1] -> bytes -> (x - 127) / 128, as the weights were trained with.
        x = ((images + 1) * 127.5 - 127) / 128
        x = _Convolution(_FIRST, 3, self.dtype, 2, name="first")(x.astype(self.dtype))
        maps, stride = {2: x}, 2
        for number, block in enumerate(list_blocks(self.version)):
            x = _Bottleneck(block, self.dtype, name=f"block_{number}")(x)
            stride *= block.stride
            maps[stride] = x
        if self.top:
            maps[stride] = _Convolution(_LAST, 1, self.dtype, name="last")(x)
        return maps


def parameter_names(version: str, top: bool = False) -> Iterator[tuple[str, str]]:
    """Yields (our name of a module of convolution and norm, PyTorch's names of both).

    PyTorch's are joined by a space: "_blocks.3._expand_conv _blocks.3._bn0". `top` is
    that of `EfficientNetLite`.
    """
    yield "first", "_conv_stem _bn0"
    for number, block in enumerate(list_blocks(version)):
        theirs = f"_blocks.{number}"
        parts = {"depthwise": "_bn1", "project": "_bn2"}
        if block.expansion > 1:
            parts = {"expand": "_bn0", **parts}
        for part, norm in parts.items():
            yield f"block_{number}/{part}", f"{theirs}._{part}_conv {theirs}.{norm}"
    if top:
        yield "last", "_conv_head _bn1"
