"""An image as a model sees it, in a few hundred numbers: its tokens, pooled."""

import jax
import jax.numpy as jnp

from rahf.models.rahf import RAHF


def pool(model: RAHF, tokens) -> jax.Array:
    """Pools image tokens over the image.

    Mean and deviation together tell a flat picture from a detailed one of the same
    colours, which the mean alone does not.

    Args:
      model: the model that made the tokens.
      tokens: dtype[B, N, D] of `RAHF.encode_image`; a class token is left out.

    Returns:
      float32[B, 2 D]: each channel's mean, then each channel's standard deviation.
    """
    patches = tokens[:, int(model.config.vit.class_token) :].astype(jnp.float32)
    return jnp.concatenate([patches.mean(axis=1), patches.std(axis=1)], axis=-1)
