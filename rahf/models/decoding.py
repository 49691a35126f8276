"""Decoding with a key-value cache: free, or constrained to marking a given prompt.

Shapes: B batch, T prompt length in pieces, W window length, M pieces of a mark,
V vocabulary.
"""

import jax
import jax.numpy as jnp

from rahf.models.rahf import RAHF, Encoding

EOS_ID = 1  # T5's convention; 0 is padding and the decoder's first input

#: How many tokens `constrained` reads at once: a whole prompt, usually.
WINDOW = 32


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
            token[:, None],
            cache,
            jnp.full(batch, index),
            encoding.memory_mask,
            method=RAHF.decode_step,
        )
        token = jnp.where(done, 0, logits[:, 0].argmax(-1).astype(jnp.int32))
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

    So the text is known but for the marks. It is guessed, first without any, and read
    a window at a time with teacher forcing. Up to the first word about which the
    decoder says otherwise than was guessed, the guess was right, and that word is now
    decided, too; reading goes on behind it, and what the decoder said of later words
    is the next guess. The result is that of decoding token by token, in a few passes
    instead of T or more: one for each window, and at most one more for each mark.

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
    window = min(width, WINDOW)
    length = width * (1 + len(mark_ids)) + window  # if every piece is a marked word
    cache = model.apply(variables, encoding, length, method=RAHF.decode_start)
    ends = (word_ends > 0) & (prompt != 0)

    def unfinished(state):
        read, marked, *_ = state
        return (ends & (_places(marked, mark_ids) >= read[:, None])).any()

    def step(state):
        # read: how many inputs of the decoder are known to be right, and cached;
        # marked: bool[B, T], what was decided before them and guessed after them.
        read, marked, probabilities, cache = state
        logits, cache = model.apply(
            variables,
            _spell(prompt, marked, mark_ids, read[:, None] + jnp.arange(window)),
            cache,
            read,
            encoding.memory_mask,
            method=RAHF.decode_step,
        )
        found = jax.nn.softmax(logits)[..., mark_ids[0]]  # [B, W]
        here = _places(marked, mark_ids) - read[:, None]  # [B, T], in the window
        seen = ends & (here >= 0) & (here < window)
        found = jnp.take_along_axis(found, jnp.clip(here, 0, window - 1), axis=1)
        said = found > 0.5
        wrong = jnp.where(seen & (said != marked), here, window - 1).min(axis=1)
        return (
            read + wrong + 1,
            jnp.where(seen, said, marked),
            jnp.where(seen, found, probabilities),
            cache,
        )

    start = (
        jnp.zeros(batch, jnp.int32),
        jnp.zeros((batch, width), bool),
        jnp.zeros((batch, width), jnp.float32),
        cache,
    )
    return jax.lax.while_loop(unfinished, step, start)[2]


def _places(marked, mark_ids):
    """Returns int32[B, T], where the decoder reads each piece of the prompt: its first
    input is padding, and the marks of earlier words lie between."""
    before = jnp.cumsum(marked, axis=1, dtype=jnp.int32) - marked
    return 1 + jnp.arange(marked.shape[1]) + len(mark_ids) * before


def _spell(prompt, marked, mark_ids, at):
    """Returns int32[B, W], the inputs of the decoder at int32[B, W] positions, if the
    words that end at bool[B, T] are marked."""
    places = _places(marked, mark_ids)
    piece = (places[:, None] <= at[..., None]).sum(axis=-1) - 1  # -1: padding
    within = jnp.maximum(piece, 0)
    after = at - jnp.take_along_axis(places, within, axis=1)
    inputs = jnp.take_along_axis(prompt, within, axis=1)
    inputs = jnp.where((piece >= 0) & (after == 0), inputs, 0)
    for count, mark in enumerate(mark_ids, start=1):
        inputs = jnp.where(after == count, mark, inputs)
    return inputs
