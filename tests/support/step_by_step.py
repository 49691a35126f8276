"""Constrained decoding one token after the other: what `decoding.constrained` must
equal, at the price of as many steps as the text has tokens."""

import jax
import jax.numpy as jnp

from rahf.models.rahf import RAHF


def constrained(model, variables, encoding, prompt, word_ends, mark_ids):
    """See `rahf.models.decoding.constrained`."""
    batch, width = prompt.shape
    length = width + len(mark_ids) * width  # if every piece is a marked word
    marks = jnp.asarray(mark_ids, jnp.int32)
    rows = jnp.arange(batch)
    sizes = (prompt != 0).sum(axis=1)
    cache = model.apply(variables, encoding, length, method=RAHF.decode_start)

    def unfinished(state):
        index, _, pointer, *_ = state
        return (index < length) & (pointer < sizes).any()

    def step(state):
        # pointer: the next piece of the prompt; marked: how many pieces of the suffix
        # were decoded since the last piece of the prompt.
        index, token, pointer, marked, probabilities, cache = state
        logits, cache = model.apply(
            variables,
            token[:, None],
            cache,
            jnp.full(batch, index),
            encoding.memory_mask,
            method=RAHF.decode_step,
        )
        following = prompt[rows, jnp.minimum(pointer, width - 1)]
        following = jnp.where(pointer < sizes, following, 1)
        last = jnp.maximum(pointer - 1, 0)
        free = (word_ends[rows, last] > 0) & (pointer > 0) & (marked == 0)
        probability = jax.nn.softmax(logits[:, 0])[:, marks[0]]
        probabilities = probabilities.at[rows, last].add(
            jnp.where(free, probability, 0.0)
        )
        marking = (free & (probability > 0.5)) | (
            (marked > 0) & (marked < len(mark_ids))
        )
        token = jnp.where(
            marking, marks[jnp.minimum(marked, len(mark_ids) - 1)], following
        )
        pointer = jnp.where(marking, pointer, pointer + 1)
        marked = jnp.where(marking, marked + 1, 0)
        return index + 1, token, pointer, marked, probabilities, cache

    zeros = jnp.zeros(batch, jnp.int32)
    probabilities = jnp.zeros((batch, width), jnp.float32)
    start = (jnp.int32(0), zeros, zeros, zeros, probabilities, cache)
    return jax.lax.while_loop(unfinished, step, start)[4]
