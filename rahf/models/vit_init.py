"""Where a ViT starts when it is trained from scratch.

Two initialisers that know what an image is; published weights replace both. With
random ones a small model spends most of a short run finding out that edges matter
and which patches are neighbours (docs/train.md has a measurement).
"""

import jax
import jax.numpy as jnp
import numpy as np


def whitened_patches(key, shape, dtype=jnp.float32):
    """Patch embedding that hears fine detail as loudly as flat colour.

    The amplitudes of images fall off as one over frequency, so what a random kernel
    passes on is mostly a patch's mean colour. This one takes the discrete cosine
    transform of each patch, raises frequency f by a factor of 1 + f, and mixes all
    of it by a random orthogonal matrix.

    Args:
      key: random key.
      shape: (P, P, C, D) of the kernel.
      dtype: of the kernel.

    Returns:
      dtype[P, P, C, D]; tokens of images in [-1, 1] have a variance of about one.
    """
    side, _, channels, width = shape
    place = np.arange(side)
    cosines = np.cos(np.pi * (place[None, :] + 0.5) * place[:, None] / side)
    cosines *= np.sqrt(np.where(place == 0, 1.0, 2.0) / side)[:, None]  # [f, place]
    gain = 1.0 + np.hypot(place[:, None], place[None, :])
    # [fy, fx, y, x], orthonormal but for the gain.
    basis = gain[:, :, None, None] * np.einsum("ay,bx->abyx", cosines, cosines)
    basis = basis.reshape(side * side, side, side)
    inputs = side * side * channels
    mixing = jax.nn.initializers.orthogonal()(key, (inputs, width), dtype)
    mixing = mixing.reshape(side * side, channels, width)
    kernel = jnp.einsum("fyx,fcd->yxcd", jnp.asarray(basis, dtype), mixing)
    # Measured on `scenes` at 8 and 16 pixels a patch: a standard deviation of one.
    return kernel * (6.0 / side)


def grid_waves(class_token: bool):
    """Position embedding of sines and cosines over the rows and the columns.

    As the fixed one of "Better plain ViT baselines for ImageNet-1k" (Beyer et al.,
    2022), but learned from there on.

    Args:
      class_token: whether position 0 is no place of the grid; it starts at zero.
    """

    def initialise(key, shape, dtype=jnp.float32):
        del key
        _, length, width = shape
        side = round((length - int(class_token)) ** 0.5)
        quarter = width // 4
        speeds = 10_000 ** -(np.arange(quarter) / max(quarter - 1, 1))
        angles = np.arange(side)[:, None] * speeds[None]  # [side, quarter]
        waves = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
        rows = np.repeat(waves, side, axis=0)
        columns = np.tile(waves, (side, 1))
        grid = np.concatenate([rows, columns], axis=1)
        out = np.zeros((1, length, width))
        out[0, int(class_token) :, : grid.shape[1]] = grid
        return jnp.asarray(out, dtype)

    return initialise
