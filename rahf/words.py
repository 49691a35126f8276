"""Splits prompts into words, and converts between word labels and marked prompts.

Labels follow RichHF-18K: 0 = misaligned (the image does not show the word), 1 =
aligned. A marked prompt is the prompt with the suffix `_0` after each misaligned word:
"a yellow_0 cat". All other characters are unchanged. The conversion is exact in both
directions because a word ends only before a delimiter or at the end of the prompt, and
no delimiter is the first character of the suffix.
"""

import difflib
import re
from collections.abc import Sequence

import numpy as np

#: The characters that separate words; not tab, apostrophe or hyphen.
DELIMITERS = ',.?!":; '
#: The suffix of a misaligned word in a marked prompt.
SUFFIX = "_0"

_WORD = re.compile(f"[^{re.escape(DELIMITERS)}]+")


def split(prompt: str) -> list[str]:
    """Splits a prompt on any of `, . ? ! " : ;` and space, without empty words.

    "a dog, and" -> ["a", "dog", "and"].
    """
    return _WORD.findall(prompt)


def spans(prompt: str) -> list[tuple[int, int]]:
    """Returns the `(start, end)` of each word of `split`, in characters.

    "a dog, and" -> [(0, 1), (2, 5), (7, 10)].
    """
    return [match.span() for match in _WORD.finditer(prompt)]


def mark(prompt: str, labels: Sequence[int] | np.ndarray) -> str:
    """Writes the labels into the prompt.

    `mark("a yellow cat", [1, 0, 1])` -> "a yellow_0 cat".

    Args:
      prompt: any text.
      labels: one per word of `split(prompt)`, 0 = misaligned, 1 = aligned.

    Returns:
      The prompt with `SUFFIX` after each misaligned word.

    Raises:
      ValueError: there are more or fewer labels than words.
    """
    ranges = spans(prompt)
    if len(labels) != len(ranges):
        raise ValueError(
            f"expected one label for each of the {len(ranges)} words of "
            f"{_shorten(prompt)}, got {len(labels)}"
        )
    pieces, done = [], 0
    for (_, end), label in zip(ranges, labels, strict=True):
        if not label:
            pieces += [prompt[done:end], SUFFIX]
            done = end
    return "".join([*pieces, prompt[done:]])


def unmark(marked: str, prompt: str) -> np.ndarray:
    """Reads the labels back: the inverse of `mark`.

    Args:
      marked: the result of `mark(prompt, labels)`.
      prompt: the prompt.

    Returns:
      int8[num_words], 0 = misaligned, 1 = aligned.

    Raises:
      ValueError: `marked` is not this prompt with marks. `align` accepts any text.
    """
    labels = np.ones(len(ranges := spans(prompt)), np.int8)
    at = done = 0  # positions in `marked` and `prompt`
    for index, (_, end) in enumerate(ranges):
        at += end - done
        if marked[at - (end - done) : at] != prompt[done:end]:
            break
        done = end
        if marked.startswith(SUFFIX, at):
            labels[index] = 0
            at += len(SUFFIX)
    if marked[at:] != prompt[done:]:
        raise ValueError(
            f"{_shorten(marked)} is not the prompt {_shorten(prompt)} with "
            f"{SUFFIX!r} after some of its words"
        )
    return labels


def align(said: str, prompt: str) -> np.ndarray:
    """Reads labels from text that resembles the marked prompt.

    An unconstrained decoder drops, repeats and misspells words. Its words are matched
    to the prompt's, in order and regardless of case; a word of the prompt without a
    match counts as aligned.

    Args:
      said: the decoder's text.
      prompt: the prompt.

    Returns:
      int8[num_words], 0 = misaligned, 1 = aligned. Equal to the result of `unmark` if
      `said` is the prompt with marks.
    """
    try:
        return unmark(said, prompt)
    except ValueError:
        pass
    wanted = [word.lower() for word in split(prompt)]
    plain = set(wanted)
    spoken, marked = [], []
    for word in split(said.lower()):
        # In a word of the prompt that itself ends in the suffix, it is not a mark.
        is_mark = word not in plain and word.endswith(SUFFIX)
        spoken.append(word.removesuffix(SUFFIX) if is_mark else word)
        marked.append(is_mark)
    labels = np.ones(len(wanted), np.int8)
    matcher = difflib.SequenceMatcher(a=spoken, b=wanted, autojunk=False)
    for block in matcher.get_matching_blocks():
        for offset in range(block.size):
            labels[block.b + offset] = not marked[block.a + offset]
    return labels


def _shorten(text: str) -> str:
    """Quotes a text for an error message."""
    return repr(text if len(text) <= 80 else text[:77] + "...")
