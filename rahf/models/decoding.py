"""Decoding with a key-value cache: free, or constrained to marking a given prompt.

Shapes: B batch, T prompt length in pieces, M memory length, V vocabulary.
"""

import jax
import jax.numpy as jnp

from rahf.models.rahf import RAHF, Encoding

EOS_ID = 1  # T5's convention; 0 is padding and the decoder's first input


def greedy(model: RAHF, variables, encoding: Encoding, length: int):
    """Decodes greedily until end of sequence.

    Returns:
      int32[B, length]: the decoded tokens, zeros after end of sequence.
    """
    batch = encoding.memory.shape[0]
    cache = model.apply(variables, encoding, length, method=RAHF.decode_start)

    def unfinished(state):
        index, _, _, done, _ = state
        return (index < length) & ~done.all()

    def step(state):
        index, token, decoded, done, cache = state
        logits, cache = model.apply(
            variables,
            token,
            cache,
            index,
            encoding.memory_mask,
            method=RAHF.decode_step,
        )
        token = jnp.where(done, 0, logits.argmax(-1).astype(jnp.int32))
        decoded = decoded.at[:, index].set(token)
        return index + 1, token, decoded, done | (token == EOS_ID), cache

    nothing = jnp.zeros((batch, length), jnp.int32)
    start = (jnp.int32(0), nothing[:, 0], nothing, jnp.zeros(batch, bool), cache)
    return jax.lax.while_loop(unfinished, step, start)[2]


def constrained(
    model: RAHF,
    variables,
    encoding: Encoding,
    prompt,
    word_ends,
    mark_ids: tuple[int, ...],
):
    """Makes the decoder repeat the prompt, choosing only which words to mark.

    After a piece that ends a word, the decoder may continue with the suffix that marks
    the word or with the prompt's next piece. The probability of the suffix is the
    probability that the word is misaligned; above one half the word is marked, and
    what follows is conditioned on that. Everywhere else the next piece is forced.

    Every token other than the suffix counts as continuing, not just the correct next
    piece: a decoder that cannot copy well yet may still know which words are wrong.

    Args:
      model, variables: the model and its parameters.
      encoding: the encoding of the image and the prompt.
      prompt: int32[B, T] pieces, the last one end of sequence, then zeros.
      word_ends: int32[B, T], 1 where a piece ends a word.
      mark_ids: the pieces of the suffix.

    Returns:
      float32[B, T]: the probability that the word is misaligned at word ends, 0
      elsewhere.
    """
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
            token,
            cache,
            index,
            encoding.memory_mask,
            method=RAHF.decode_step,
        )
        following = prompt[rows, jnp.minimum(pointer, width - 1)]
        following = jnp.where(pointer < sizes, following, EOS_ID)
        last = jnp.maximum(pointer - 1, 0)
        free = (word_ends[rows, last] > 0) & (pointer > 0) & (marked == 0)
        probability = jax.nn.softmax(logits)[:, marks[0]]
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
