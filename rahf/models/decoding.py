"""Decoding with a key-value cache: free, or constrained to marking a given prompt.

Shapes: B batch, T prompt length in pieces, W window length, M pieces of a mark,
V vocabulary.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from rahf.models.rahf import RAHF, Encoding

EOS_ID = 1  # T5's convention; 0 is padding and the decoder's first input

#: How many tokens are read at once: a whole prompt, usually.
WINDOW = 32
#: A window takes as long as this many single tokens (T5-base, batches of 1 and 8, two
#: cores of an AMD EPYC); where fewer of it turn out as expected, `greedy` goes on token
#: by token, but not before it has tried a few times.
_WORTH, _TRIES = 4, 3


def greedy(
    model: RAHF,
    variables,
    encoding: Encoding,
    length: int,
    prompt=None,
    mark_ids: tuple[int, ...] = (),
):
    """Decodes greedily until end of sequence.

    A text that is expected makes it faster, and changes nothing else: a window of what
    should come next is read at once, and what the decoder says agrees with it up to
    some place; so far, and one token further, it has said what it would have said token
    by token. A decoder that says something else is soon left alone.

    Args:
      model, variables: the model and its parameters.
      encoding: the encoding of the image and the prompt.
      length: the most tokens to decode.
      prompt: int32[B, T], what it will probably say, with suffixes after some pieces;
        None if nobody knows.
      mark_ids: the pieces of the suffix.

    Returns:
      int32[B, length]: the decoded tokens, zeros after end of sequence.
    """
    batch = encoding.memory.shape[0]
    window = min(length, WINDOW)
    cache = model.apply(variables, encoding, length + window, method=RAHF.decode_start)
    rows = jnp.arange(batch)

    def unfinished(state):
        return ~state.done.all()

    def goes_well(state):
        slowest = jnp.where(state.done, length, state.known).min()
        enough = slowest >= _WORTH * state.passes
        return unfinished(state) & (enough | (state.passes < _TRIES))

    def read(state, guesses):
        last = jnp.where(state.known > 0, state.decoded[rows, state.known - 1], 0)
        logits, cache = model.apply(
            variables,
            jnp.concatenate([last[:, None], guesses[:, :-1]], axis=1),
            state.cache,
            state.known,
            encoding.memory_mask,
            method=RAHF.decode_step,
        )
        said = logits.argmax(-1).astype(jnp.int32)
        agreed = jnp.cumprod(said == guesses, axis=1).sum(axis=1)
        return state.replace(cache=cache).say(said, agreed, length), said, agreed

    def read_window(state):
        guesses = _guess(prompt, state.expected, mark_ids, window)
        expected = state.expected
        state, said, agreed = read(state, guesses)
        odd = said[rows, jnp.minimum(agreed, window - 1)]
        odd = jnp.where(agreed < window, odd, -1)
        return state.replace(expected=_expect(expected, agreed, odd, mark_ids))

    def read_one(state):
        return read(state, jnp.zeros((batch, 1), jnp.int32))[0]

    zeros = jnp.zeros(batch, jnp.int32)
    state = _Said(
        known=zeros,
        expected=(zeros, zeros),
        decoded=jnp.zeros(
            (batch, length + 1), jnp.int32
        ),  # the last takes what is over
        done=jnp.zeros(batch, bool),
        passes=jnp.int32(0),
        cache=cache,
    )
    if prompt is not None:
        state = jax.lax.while_loop(goes_well, read_window, state)
    return jax.lax.while_loop(unfinished, read_one, state).decoded[:, :length]


class _Said(struct.PyTreeNode):
    """What `greedy` has decoded.

    Attributes:
      known: int32[B], how many tokens are decoded.
      expected: int32[B] each: the next piece of the prompt, and how many pieces of a
        suffix were said.
      decoded: int32[B, length + 1].
      done: bool[B].
      passes: how often the decoder was called.
      cache: the decoder's.
    """

    known: jax.Array
    expected: tuple[jax.Array, jax.Array]
    decoded: jax.Array
    done: jax.Array
    passes: jax.Array
    cache: Any

    def say(self, said, agreed, length: int) -> "_Said":
        """Adds what the decoder said, int32[B, W], as far as it read what it had said:
        `agreed` int32[B] tokens that were guessed right, and the next."""
        places = jnp.arange(said.shape[1])
        at, ends = self.known[:, None] + places, said == EOS_ID
        counts = (places <= agreed[:, None]) & (at < length) & ~self.done[:, None]
        counts &= jnp.cumsum(ends, axis=1) - ends == 0
        at = jnp.where(counts, at, length)
        known = self.known + counts.sum(axis=1)
        return self.replace(
            known=known,
            decoded=self.decoded.at[jnp.arange(len(said))[:, None], at].set(said),
            done=self.done | (counts & ends).any(axis=1) | (known >= length),
            passes=self.passes + 1,
        )


def _guess(prompt, expected, mark_ids, window: int):
    """Returns int32[B, W], what should come next: the rest of a suffix, if it was begun,
    and the prompt from its next piece on."""
    pointer, marked = expected
    left = jnp.where(marked > 0, len(mark_ids) - marked, 0)
    at = pointer[:, None] + jnp.arange(window) - left[:, None]
    pieces = jnp.take_along_axis(prompt, jnp.clip(at, 0, prompt.shape[1] - 1), axis=1)
    pieces = jnp.where(at < prompt.shape[1], pieces, 0)
    for count, mark in enumerate(mark_ids):
        rest = jnp.arange(window) == (count - marked)[:, None]
        pieces = jnp.where(rest & (marked > 0)[:, None], mark, pieces)
    return pieces


def _expect(expected, agreed, odd, mark_ids):
    """Returns what to expect after `agreed` tokens that were, and `odd`, if it is not
    -1, that was not: a suffix begins, or a piece of the prompt is replaced."""
    pointer, marked = expected
    left = jnp.where(marked > 0, len(mark_ids) - marked, 0)
    pointer = pointer + jnp.maximum(agreed - left, 0)
    marked = jnp.where(agreed < left, marked + agreed, 0)
    begins = (odd == mark_ids[0]) if mark_ids else jnp.zeros_like(odd, bool)
    replaces = (odd >= 0) & (marked == 0) & ~begins
    begins = begins & (marked == 0) & (len(mark_ids) > 1)
    stays = (odd < 0) & (marked > 0)
    marked = jnp.where(stays, marked, jnp.where(begins, 1, 0))
    return pointer + replaces, marked


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
