"""A teacher's probabilities of words as a target of the decoder.

The decoder's text takes, after each word, the way that the teacher finds more probable:
the word's mark, or what follows without it. A student learns the probabilities of both.
"""

from collections.abc import Sequence

import numpy as np

from rahf.input.vocabulary import EOS_ID

#: Above this probability the decoder marks a word (`rahf.models.decoding.constrained`).
#: Each of a teacher's probabilities is conditional on the marks before it.
CUT = 0.5


def labels(chances: np.ndarray) -> np.ndarray:
    """Returns int8[num_words]: 0 = misaligned, 1 = aligned, as records have labels.

    Args:
      chances: float[num_words] in [0, 1], how probably each word is not shown.
    """
    return (np.asarray(chances) <= CUT).astype(np.int8)


def soften(
    text: Sequence[int],
    ids: Sequence[int],
    ends: Sequence[int],
    chances: np.ndarray,
    mark_ids: Sequence[int],
) -> np.ndarray:
    """Adds to the decoder's text, at each choice, the way not taken.

    Args:
      text: the prompt with its marked words, end of sequence last, perhaps cut.
      ids, ends: of the whole prompt, from `Vocabulary.encode_words`.
      chances: float[num_words].
      mark_ids: the pieces of a mark.

    Returns:
      float32[len(text), 3]: the text's token, the token of the way not taken, and the
      probability of that way; where there is no choice, the token twice, and 0.
    """
    soft = np.zeros((len(text), 3), np.float32)
    soft[:, 0] = soft[:, 1] = text
    following, left, at = [*ids[1:], EOS_ID], iter(np.asarray(chances).tolist()), 0
    for after, end in zip(following, ends, strict=True):
        at += 1  # the place behind the piece
        if at >= len(text):
            break
        if not end:
            continue
        chance = next(left)
        if chance > CUT:
            soft[at, 1:] = after, 1 - chance
            at += len(mark_ids)
        else:
            soft[at, 1:] = mark_ids[0], chance
    return soft
