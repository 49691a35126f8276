"""Which tokens of an image are masked: in training at random, in sampling by schedule.

Chang et al., "MaskGIT" (2022), section 3; rectangles as in aMUSEd (Patil et al., 2024).
"""

import jax
import jax.numpy as jnp
import numpy as np


def cosine(progress):
    """Returns the share of tokens that is masked at a progress in [0, 1]: 1 to 0."""
    return jnp.cos(0.5 * jnp.pi * progress)


def training_masks(key, batch: int, grid: int, rectangles: float):
    """Draws which tokens to mask.

    The share of an image is the cosine of a uniform progress; at least one token is
    masked.

    Args:
      key: a random key.
      batch: B.
      grid: G.
      rectangles: the share of images of which a rectangle is masked instead of
        scattered tokens. It teaches to fill in a part of an image.

    Returns:
      bool[B, G, G].
    """
    which, scattered, contiguous = jax.random.split(key, 3)
    is_rectangle = jax.random.bernoulli(which, rectangles, (batch, 1, 1))
    return jnp.where(
        is_rectangle,
        _rectangles(contiguous, batch, grid),
        _scattered(scattered, batch, grid),
    )


def _scattered(key, batch: int, grid: int):
    progress, order = jax.random.split(key)
    share = cosine(jax.random.uniform(progress, (batch, 1)))
    count = jnp.maximum(jnp.ceil(share * grid**2), 1)
    noise = jax.random.uniform(order, (batch, grid**2))
    rank = noise.argsort(axis=1).argsort(axis=1)
    return (rank < count).reshape(batch, grid, grid)


def _rectangles(key, batch: int, grid: int):
    """Sides are uniform from an eighth of the image to all of it, as is the place."""
    sizes, places = jax.random.split(key)
    least = max(grid // 8, 1)
    side = jax.random.randint(sizes, (batch, 2), least, grid + 1)
    room = grid - side + 1
    start = jnp.floor(jax.random.uniform(places, (batch, 2)) * room)
    at = jnp.arange(grid)
    inside = (at >= start[..., None]) & (at < (start + side)[..., None])  # [B, 2, G]
    return inside[:, 0, :, None] & inside[:, 1, None, :]


def halton_order(grid: int) -> np.ndarray:
    """Returns the place of each token in a quasi-random order, int32[G, G].

    Tokens that follow each other in a Halton sequence lie far apart, so that those that
    are sampled together, each without knowing the others, depend on each other least
    (Besnier et al., "Halton Scheduler for Masked Generative Image Transformer", 2025).
    """
    order, seen, index = np.full((grid, grid), -1, np.int32), 0, 1
    while seen < grid * grid:
        row, column = (int(_radical_inverse(index, base) * grid) for base in (2, 3))
        if order[row, column] < 0:
            order[row, column], seen = seen, seen + 1
        index += 1
    return order


def _radical_inverse(index: int, base: int) -> float:
    value, scale = 0.0, 1.0 / base
    while index:
        index, digit = divmod(index, base)
        value += digit * scale
        scale /= base
    return value
