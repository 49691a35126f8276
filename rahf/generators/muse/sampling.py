"""Fills in masked tokens, a few at a time.

Chang et al., "MaskGIT" (2022), section 3.2. An image depends on its prompt, its seed and
these options alone, not on the others of its batch.

Shapes: B batch, G grid side, C codes, N = G * G.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from rahf.generators.muse.masking import cosine, halton_order

#: How to choose which tokens of a step are kept.
ORDERS = ("halton", "confidence")


@dataclasses.dataclass(frozen=True)
class SamplingOptions:
    """How to sample.

    Attributes:
      steps: passes of the transformer; each keeps the tokens that the cosine schedule
        adds.
      guidance: s of u + s (c - u), the logits with (c) and without (u) the prompt; 1
        takes c alone, in half the time.
      order: "confidence" keeps the most probable tokens, "halton" goes by a quasi-random
        order of places.
      temperature: of the noise on confidences; falls linearly to 0 (4.5 in MaskGIT).
    """

    steps: int = 16
    guidance: float = 2.0
    order: str = "halton"
    temperature: float = 4.5

    def __post_init__(self):
        if self.steps < 1:
            raise ValueError(f"steps={self.steps}: expected at least 1")
        if self.order not in ORDERS:
            raise ValueError(f"order={self.order!r}; known: {', '.join(ORDERS)}")
        if self.guidance < 0 or self.temperature < 0:
            raise ValueError(
                f"guidance={self.guidance} and temperature={self.temperature}: expected "
                "at least 0"
            )


def fill(
    logits: Callable, tokens, unknown, text, keys, options: SamplingOptions, codes: int
):
    """Samples the unknown tokens of some images.

    Args:
      logits: (int32[B, G, G] tokens, int32[B, L] text) -> float32[B, G, G, C].
      tokens: int32[B, G, G]; the unknown ones are not looked at.
      unknown: bool[B, G, G]: what to sample.
      text: int32[B, L], the pieces of the prompts.
      keys: random keys, one an image.
      options: how to sample.
      codes: C, which is also the id of a masked token.

    Returns:
      int32[B, G, G]: the known tokens as they were, and no masked one.
    """
    batch, grid, _ = tokens.shape
    flat = lambda x: x.reshape(batch, grid * grid)
    at_start = flat(unknown).sum(axis=1)  # [B]
    places = jnp.asarray(halton_order(grid).reshape(-1))

    def step(carry, index):
        known, masked = carry  # int32[B, N], bool[B, N]
        given = jnp.where(masked, codes, known).reshape(batch, grid, grid)
        found = _guided(logits, given, text, options.guidance)
        found = jax.nn.log_softmax(found.reshape(batch, grid * grid, codes))
        draw, shake = _keys_of_step(keys, index)
        drawn = jax.vmap(jax.random.categorical)(draw, found)  # [B, N]
        known = jnp.where(masked, drawn, known)
        progress = (index + 1) / options.steps
        left = jnp.floor(at_start * cosine(progress))
        # At least one token is kept, and one is left, until the last step keeps all.
        now = masked.sum(axis=1)
        left = jnp.maximum(jnp.minimum(now - 1, left), 1)
        left = jnp.where(index + 1 == options.steps, 0, left)
        if options.order == "halton":
            worth = jnp.broadcast_to(-places.astype(jnp.float32), known.shape)
        else:
            chosen = jnp.take_along_axis(found, drawn[..., None], axis=-1)[..., 0]
            noise = jax.vmap(lambda k: jax.random.gumbel(k, (grid * grid,)))(shake)
            worth = chosen + options.temperature * (1 - progress) * noise
        worth = jnp.where(masked, worth, jnp.inf)
        rank = worth.argsort(axis=1).argsort(axis=1)  # the least worth first
        return (known, masked & (rank < left[:, None])), None

    start = flat(tokens), flat(unknown)
    (found, _), _ = jax.lax.scan(step, start, jnp.arange(options.steps))
    return found.reshape(batch, grid, grid)


def _guided(logits, tokens, text, guidance: float):
    """Returns float32[B, G, G, C], both passes as one batch."""
    if guidance == 1.0:
        return logits(tokens, text)
    both = logits(
        jnp.concatenate([tokens, tokens]), jnp.concatenate([text, jnp.zeros_like(text)])
    )
    with_prompt, without = jnp.split(both, 2)
    return without + guidance * (with_prompt - without)


def _keys_of_step(keys, index):
    """Returns two keys an image for a step."""
    each = jax.vmap(lambda key: jax.random.split(jax.random.fold_in(key, index)))(keys)
    return each[:, 0], each[:, 1]


def tokens_under(masks, stride: int, grow: int = 1):
    """Returns the tokens that a mask of pixels touches, grown by a few tokens.

    Args:
      masks: float32[B, S, S], above 0 where to repaint.
      stride: the side of a token in pixels.
      grow: by how many tokens to grow on each side, since a token's pixels reach beyond
        it.

    Returns:
      bool[B, G, G].
    """
    batch, side, _ = masks.shape
    grid = side // stride
    touched = (masks > 0).reshape(batch, grid, stride, grid, stride).any(axis=(2, 4))
    window = 2 * grow + 1
    return jax.lax.reduce_window(
        touched, False, jax.lax.bitwise_or, (1, window, window), (1, 1, 1), "SAME"
    )
