"""CLIP's byte-pair encoding, from the files that come with its weights.

Text is lower-cased and cut into words, numbers and punctuation; each becomes bytes,
written as printable characters; pairs are then merged in the order of the file. As
`transformers` does it; OpenAI's own code also repairs wrongly decoded text and HTML's
entities, which prompts rarely hold.
"""

import dataclasses
import functools
import gzip
import io
import itertools
import json
import os
import pathlib
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import regex

from rahf import words as words_lib

START, END = "<|startoftext|>", "<|endoftext|>"
#: OpenAI's file of merges, and Hugging Face's two.
OPENAI_FILE = "bpe_simple_vocab_16e6.txt.gz"
VOCABULARY_FILE, MERGES_FILE = "vocab.json", "merges.txt"
#: The number of merges of OpenAI's file that belong to CLIP; it lists more.
_MERGES = 49152 - 256 - 2
_WORD_END = "</w>"
_MOST_BYTES = 64 << 20  # of a file, unpacked
_PATTERN = regex.compile(
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d"
    r"|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
)


@dataclasses.dataclass(frozen=True)
class Encoded:
    """A text as tokens.

    Attributes:
      ids: int32[L], from start to end of text, then 0.
      words: for each word of `rahf.words.split`, the places of its tokens in `ids`;
        empty where the text was cut before it.
      truncated: whether the text was cut.
    """

    ids: np.ndarray
    words: tuple[tuple[int, ...], ...]
    truncated: bool


class ClipTokenizer:
    """Cuts text into CLIP's tokens."""

    def __init__(self, ids: Mapping[str, int], merges: Iterable[tuple[str, str]]):
        """Takes a vocabulary.

        Args:
          ids: token -> id, with `START` and `END`.
          merges: the pairs, in the order of merging.

        Raises:
          ValueError: a token is missing.
        """
        self._ids = dict(ids)
        self._ranks = {pair: rank for rank, pair in enumerate(merges)}
        self._bytes = _printable_bytes()
        needed = [START, END, *self._bytes.values()]
        needed += ["".join(pair) for pair in self._ranks]
        if missing := [token for token in needed if token not in self._ids]:
            raise ValueError(
                f"CLIP's vocabulary lacks {len(missing)} tokens, such as {missing[0]!r}"
            )
        self.start_id, self.end_id = self._ids[START], self._ids[END]
        self._cut = functools.lru_cache(1 << 14)(self._merge)

    def __len__(self) -> int:
        return max(self._ids.values()) + 1

    @classmethod
    def read(cls, path: str | os.PathLike) -> "ClipTokenizer":
        """Reads the files of a tokenizer.

        Args:
          path: `bpe_simple_vocab_16e6.txt.gz`, or a folder that has it, or `vocab.json`
            and `merges.txt`.

        Raises:
          ValueError: the files are missing or malformed.
        """
        path = pathlib.Path(path)
        if path.is_dir():
            if (path / VOCABULARY_FILE).is_file() and (path / MERGES_FILE).is_file():
                return cls._read_huggingface(path)
            path = path / OPENAI_FILE
        if not path.is_file():
            raise ValueError(
                f"{path} does not exist: CLIP's tokenizer is {OPENAI_FILE}, or a folder "
                f"with {VOCABULARY_FILE} and {MERGES_FILE}"
            )
        lines = _read_text(path).split("\n")[1 : _MERGES + 1]
        lines = [line for line in lines if line]
        merges = _parse_merges(lines, path)
        tokens = [*_printable_bytes().values()]
        tokens += [token + _WORD_END for token in tokens]
        tokens += ["".join(pair) for pair in merges]
        tokens += [START, END]
        return cls({token: id_ for id_, token in enumerate(tokens)}, merges)

    @classmethod
    def _read_huggingface(cls, folder: pathlib.Path) -> "ClipTokenizer":
        path = folder / VOCABULARY_FILE
        try:
            ids = json.loads(_read_text(path))
        except ValueError as error:
            raise ValueError(f"{path} is not JSON: {error}") from error
        if not isinstance(ids, dict) or not all(
            type(value) is int and 0 <= value < 1 << 31 for value in ids.values()
        ):
            raise ValueError(f"{path}: expected an object of token and number")
        lines = _read_text(folder / MERGES_FILE).split("\n")
        lines = [line for line in lines if not line.startswith("#version") and line]
        return cls(ids, _parse_merges(lines, folder / MERGES_FILE))

    def encode(self, text: str, length: int) -> Encoded:
        """Encodes a text, cut to what fits between the start and the end of text.

        Args:
          text: any text.
          length: L.
        """
        letters, origins, spans = _normalise(text)
        owner_of = {
            i: number for number, span in enumerate(spans) for i in range(*span)
        }
        ids: list[int] = []
        words: list[list[int]] = [[] for _ in spans]
        for match in _PATTERN.finditer(letters):
            places = range(*match.span())
            owners = [owner_of[origins[i]] for i in places if origins[i] in owner_of]
            for id_ in self._cut(match.group()):
                if owners:
                    words[owners[0]].append(len(ids) + 1)
                ids.append(id_)
        room = length - 2
        found = np.zeros(length, np.int32)
        kept = [self.start_id, *ids[:room], self.end_id]
        found[: len(kept)] = kept
        inside = tuple(tuple(i for i in places if i <= room) for places in words)
        return Encoded(found, inside, len(ids) > room)

    def _merge(self, word: str) -> tuple[int, ...]:
        if word in (START, END):
            return (self._ids[word],)
        parts = [self._bytes[byte] for byte in word.encode("utf-8", "replace")]
        parts[-1] += _WORD_END
        while len(parts) > 1:
            pairs = set(itertools.pairwise(parts))
            first = min(pairs, key=lambda pair: self._ranks.get(pair, 1 << 31))
            if first not in self._ranks:
                break
            parts = _join(parts, first)
        return tuple(self._ids[part] for part in parts)


def _join(parts: Sequence[str], pair: tuple[str, str]) -> list[str]:
    """Replaces each occurrence of a pair by its join, from left to right."""
    joined, i = [], 0
    while i < len(parts):
        if tuple(parts[i : i + 2]) == pair:
            joined.append("".join(pair))
            i += 2
        else:
            joined.append(parts[i])
            i += 1
    return joined


def _normalise(text: str) -> tuple[str, list[int], list[tuple[int, int]]]:
    """Returns composed, lower-cased text, where each of its letters comes from, and the
    spans of the words there."""
    composed = unicodedata.normalize("NFC", text)
    spans = words_lib.spans(text)
    if composed != text:
        places = {0: 0}
        for end in sorted({end for span in spans for end in span}):
            places[end] = len(unicodedata.normalize("NFC", text[:end]))
        spans = [(places[start], places[end]) for start, end in spans]
    letters, origins = [], []
    for i, letter in enumerate(composed):
        lower = letter.lower()  # each by itself: İ becomes two, Σ never ς
        letters.append(lower)
        origins += [i] * len(lower)
    return "".join(letters), origins, spans


def _printable_bytes() -> dict[int, str]:
    """Returns a printable character for each byte, as GPT-2 wrote them.

    Bytes that print stand for themselves and come first; the rest follow from 256 on.
    """
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return {byte: chr(byte) for byte in shown} | {
        byte: chr(256 + i) for i, byte in enumerate(hidden)
    }


def _parse_merges(lines: Sequence[str], path: pathlib.Path) -> list[tuple[str, str]]:
    merges = []
    for number, line in enumerate(lines, 2):
        pair = tuple(line.split())
        if len(pair) != 2:
            raise ValueError(
                f"{path}, line {number}: expected two tokens and a space, got "
                f"{line[:60]!r}"
            )
        merges.append((pair[0], pair[1]))
    return merges


def _read_text(path: pathlib.Path) -> str:
    try:
        data = path.read_bytes() if path.stat().st_size <= _MOST_BYTES else b""
        if data[:2] == b"\x1f\x8b":
            with gzip.open(io.BytesIO(data)) as file:
                data = file.read(_MOST_BYTES + 1)
        if not 0 < len(data) <= _MOST_BYTES:
            raise ValueError(f"expected 1 to {_MOST_BYTES:,} bytes of text")
        return data.decode("utf-8")
    except (OSError, EOFError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise ValueError(f"{path} cannot be read as text: {why}") from error
