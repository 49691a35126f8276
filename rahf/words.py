"""Words of a prompt, and the codec between their labels and a marked prompt.

Labels follow RichHF-18K: 0 = misaligned (the image does not show the word), 1 =
aligned. A marked prompt is the prompt itself with the suffix `_0` after each
misaligned word: "a yellow_0 cat". Every other character stays as it is, so the
codec is exact both ways: the suffix starts with a character that no delimiter
starts with, and a word ends only before a delimiter or at the end.
"""

import difflib
import re
from collections.abc import Sequence

import numpy as np

#: The characters that separate words. Only these: no tab, apostrophe or hyphen.
DELIMITERS = ',.?!":; '
#: What follows a misaligned word in a marked prompt.
SUFFIX = "_0"

_WORD = re.compile(f"[^{re.escape(DELIMITERS)}]+")


def split(prompt: str) -> list[str]:
    """Splits a prompt on any of `, . ? ! " : ;` and space, dropping empties.

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
    places = spans(prompt)
    if len(labels) != len(places):
        raise ValueError(
            f"expected one label for each of the {len(places)} words of "
            f"{_shorten(prompt)}, got {len(labels)}"
        )
    pieces, done = [], 0
    for (_, end), label in zip(places, labels, strict=True):
        if not label:
            pieces += [prompt[done:end], SUFFIX]
            done = end
    return "".join([*pieces, prompt[done:]])


def unmark(marked: str, prompt: str) -> np.ndarray:
    """Reads the labels back: the inverse of `mark`.

    Args:
      marked: what `mark(prompt, labels)` returned.
      prompt: the prompt.

    Returns:
      int8[num_words], 0 = misaligned, 1 = aligned.

    Raises:
      ValueError: `marked` is not this prompt with marks. `align` takes any text.
    """
    labels = np.ones(len(places := spans(prompt)), np.int8)
    at = done = 0  # how far `marked` and `prompt` have been read
    for index, (_, end) in enumerate(places):
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
    """Reads labels from text that ought to be the marked prompt, but may not be.

    A free decoder drops, repeats and misspells words. Its words are matched to
    the prompt's, in order and regardless of case; a prompt word that nothing
    matches counts as aligned.

    Args:
      said: the decoder's words.
      prompt: the prompt.

    Returns:
      int8[num_words], 0 = misaligned, 1 = aligned. Equal to `unmark` where that
      is defined.
    """
    try:
        return unmark(said, prompt)
    except ValueError:
        pass
    wanted = [word.lower() for word in split(prompt)]
    plain = set(wanted)
    spoken, marked = [], []
    for word in split(said.lower()):
        # A word of the prompt may itself end in the suffix: then it is no mark.
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
