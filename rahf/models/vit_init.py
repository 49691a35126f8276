"""Initialisers of a ViT that is trained from scratch.

Both know what an image is; published weights replace them. With random initialisation a
small model spends most of a short run discovering that edges matter and which patches
are neighbours (docs/train.md has a measurement).
"""

import jax
import jax.numpy as jnp
import numpy as np


def whitened_patches(key, shape, dtype=jnp.float32):
    """Initialises a patch embedding that weighs fine detail as much as flat colour.

    The amplitudes of images fall off as one over frequency, so a random kernel passes
    on little but a patch's mean colour. This one takes the discrete cosine transform of
    each patch, amplifies frequency f by 1 + f, and mixes the result with a random
    orthogonal matrix.

    Args:
      key: random key.
      shape: (P, P, C, D), the kernel's shape.
      dtype: the kernel's dtype.

    Returns:
      dtype[P, P, C, D]; tokens of images in [-1, 1] have a variance of about one.
    """
    side, _, channels, width = shape
    index = np.arange(side)
    cosines = np.cos(np.pi * (index[None, :] + 0.5) * index[:, None] / side)
    cosines *= np.sqrt(np.where(index == 0, 1.0, 2.0) / side)[:, None]  # [f, x]
    gain = 1.0 + np.hypot(index[:, None], index[None, :])
    # [fy, fx, y, x], orthonormal up to the gain.
    basis = gain[:, :, None, None] * np.einsum("ay,bx->abyx", cosines, cosines)
    basis = basis.reshape(side * side, side, side)
    inputs = side * side * channels
    mixing = jax.nn.initializers.orthogonal()(key, (inputs, width), dtype)
    mixing = mixing.reshape(side * side, channels, width)
    kernel = jnp.einsum("fyx,fcd->yxcd", jnp.asarray(basis, dtype), mixing)
    # Gives a standard deviation of one on `scenes` at 8 and 16 pixels per patch.
    return kernel * (6.0 / side)


def grid_waves(class_token: bool):
    """Returns an initialiser of position embeddings: sines and cosines over the grid.

    They start as the fixed ones of "Better plain ViT baselines for ImageNet-1k" (Beyer
    et al., 2022), and are learned from there.

    Args:
      class_token: whether position 0 belongs to the class token; it starts at zero.
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
