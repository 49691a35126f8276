"""Depthwise convolutions, one kernel a channel, that are fast on processors too.

XLA computes grouped convolutions on a CPU channel by channel, at a hundredth of the speed
of what else it does there. On a CPU, this module adds up shifted copies of the image
instead, which XLA fuses into one loop: on two cores of an AMD EPYC, 8 images, in
milliseconds of processor time forward and backward (/ as a convolution): 112 x 112 pixels,
32 channels, kernel 3, 21 (/ 930); 28 x 28, 240, kernel 5, 19 (/ 340).
On TPUs and GPUs it is the convolution.

Shapes: B batch, H, W sides, K side of the kernel, S stride, C channels.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def convolve(x, kernel, stride: int):
    """Convolves each channel with its own kernel, padding as TensorFlow's SAME.

    Args:
      x: dtype[B, H, W, C].
      kernel: dtype[K, K, 1, C].
      stride: S, of both sides.

    Returns:
      dtype[B, H / S, W / S, C], sides rounded up.
    """
    return lax.platform_dependent(
        x,
        kernel,
        cpu=functools.partial(_add_shifted, stride=stride),
        default=functools.partial(_grouped, stride=stride),
    )


def _forward(x, kernel, stride: int):
    return convolve(x, kernel, stride), (x, kernel)


def _backward(stride: int, saved, change):
    def shifted(x, kernel, change):
        size = kernel.shape[0]
        return (
            _of_image(change, kernel, stride, x.shape),
            _of_kernel(x, change, stride, size),
        )

    def grouped(x, kernel, change):
        _, back = jax.vjp(functools.partial(_grouped, stride=stride), x, kernel)
        return back(change)

    return lax.platform_dependent(*saved, change, cpu=shifted, default=grouped)


convolve.defvjp(_forward, _backward)


def _grouped(x, kernel, *, stride: int):
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
    )


def _padding(side: int, size: int, stride: int) -> tuple[int, int, int]:
    """Returns the side of the result, and the pixels to pad before and after."""
    result = -(-side // stride)
    pad = max((result - 1) * stride + size - side, 0)
    return result, pad // 2, pad - pad // 2


def _pad(x, size: int, stride: int):
    sides = [_padding(side, size, stride) for side in x.shape[1:3]]
    x = jnp.pad(x, ((0, 0), *(each[1:] for each in sides), (0, 0)))
    return x, [each[0] for each in sides]


def _add_shifted(x, kernel, *, stride: int):
    size = kernel.shape[0]
    x, (height, width) = _pad(x, size, stride)
    down, across = (height - 1) * stride + 1, (width - 1) * stride + 1
    return sum(
        x[:, i : i + down : stride, j : j + across : stride] * kernel[i, j, 0]
        for i in range(size)
        for j in range(size)
    )


def _of_image(change, kernel, stride: int, shape):
    """The gradient of the image: the change, spread out, by the turned kernel."""
    size, pads = kernel.shape[0], [(0, 0, 0)]
    for side in shape[1:3]:
        result, before, _ = _padding(side, size, stride)
        first = size - 1 - before
        last = side + size - 1 - first - ((result - 1) * stride + 1)
        pads.append((first, last, stride - 1))
    spread = lax.pad(change, jnp.zeros((), change.dtype), (*pads, (0, 0, 0)))
    height, width = shape[1:3]
    return sum(
        spread[:, i : i + height, j : j + width] * kernel[size - 1 - i, size - 1 - j, 0]
        for i in range(size)
        for j in range(size)
    )


def _of_kernel(x, change, stride: int, size: int):
    """The gradient of the kernel, row by row: sums over whole images are slow."""
    x, (height, width) = _pad(x, size, stride)
    across = (width - 1) * stride + 1

    def of_row(row):
        mine = lax.dynamic_index_in_dim(change, row, 1, keepdims=False)
        seen = lax.dynamic_slice_in_dim(x, row * stride, size, 1)
        return jnp.stack(
            [
                (seen[:, i, j : j + across : stride] * mine).sum((0, 1))
                for i in range(size)
                for j in range(size)
            ]
        )

    total = lax.map(of_row, jnp.arange(height)).sum(0)
    return total.reshape(size, size, 1, -1)
