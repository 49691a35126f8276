"""Tokenises text with a SentencePiece model such that words can be marked.

The conventions are T5's: pad 0, end of sequence 1, unknown 2, and 100 extra ids
after the model's own, so T5's `spiece.model` can be used as it is.

**Canonical tokenisation.** A prompt is divided at every word end (`rahf.words`) and
the segments are tokenised one by one. For ordinary text that gives exactly
SentencePiece's ids. Where SentencePiece would make a piece that extends beyond the end
of a word, it gives shorter pieces, so that the suffix `_0` can be inserted after any
word without changing another id. Training and constrained decoding share this rule.
"""

import functools
import pathlib
from collections.abc import Sequence

import numpy as np
import sentencepiece

from rahf import storage, words

PAD_ID, EOS_ID, UNK_ID = 0, 1, 2
#: Sentinels of T5's span corruption, kept so that embedding tables match.
EXTRA_IDS = 100

#: The vocabulary that ships with the package (rahf/bin/make_vocabulary.py).
SCENES = pathlib.Path(__file__).with_name("scenes_vocabulary.model")

# Protobuf merges this into a serialized SentencePiece model to which it is appended:
# field 3 (normalizer_spec), 2 bytes: field 3 (add_dummy_prefix) = false.
_NO_DUMMY_PREFIX = b"\x1a\x02\x18\x00"
_SPACE = "\u2581"  # SentencePiece's character for a space
_CACHED_LENGTH = 64  # longer segments are not worth caching


class Vocabulary:
    """A SentencePiece vocabulary.

    Attributes:
      size: the number of ids, including the extra ones.
      mark_ids: the ids of the suffix that follows a misaligned word.
      path: the model file.
    """

    def __init__(self, path: str | pathlib.Path = "scenes"):
        """Loads a model file.

        Args:
          path: a SentencePiece `.model` file, or "scenes" for the built-in one.

        Raises:
          ValueError: the file is missing, is not a SentencePiece model or does
            not follow T5's conventions.
        """
        self.path = (
            SCENES if str(path) == "scenes" else storage.place(path, "a vocabulary")
        )
        self._model = _read(self.path)
        self._whole = _processor(self._model, self.path)
        self._inner = _processor(self._model + _NO_DUMMY_PREFIX, self.path)
        _check_conventions(self._whole, self.path)
        self.size = self._whole.get_piece_size() + EXTRA_IDS
        self.mark_ids = tuple(self._inner.encode(words.SUFFIX))
        if UNK_ID in self.mark_ids:
            raise ValueError(
                f"vocabulary {self.path} cannot spell {words.SUFFIX!r}, the suffix of "
                "a misaligned word; train it with the characters '_' and '0' "
                "(python -m rahf.bin.make_vocabulary)"
            )
        self._remembered = functools.lru_cache(1 << 16)(self._segment)

    def __len__(self) -> int:
        return self.size

    def __reduce__(self):
        return Vocabulary, (str(self.path),)

    def encode(self, text: str) -> list[int]:
        """Returns the canonical ids of a text, without end of sequence."""
        return self._tokenize(text)[0]

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """Returns the text up to the end of sequence.

        Padding and the extra ids are omitted.
        """
        pieces = []
        for i in np.asarray(ids, np.int64).tolist():
            if i == EOS_ID:
                break
            if PAD_ID < i < self.size - EXTRA_IDS:
                pieces.append(i)
        return self._whole.decode(pieces)

    def encode_words(
        self, prompt: str, labels: Sequence[int] | np.ndarray | None = None
    ) -> tuple[list[int], list[int], list[int]]:
        """Tokenises a prompt and locates the ends of its words.

        Args:
          prompt: any text.
          labels: one per word of `words.split(prompt)`, 0 = misaligned, 1 =
            aligned; None if unknown.

        Returns:
          Three lists of equal length: the ids of the prompt, without end of sequence;
          1 where a piece ends a word, else 0, with as many ones as words; 1 where a
          piece ends a misaligned word, else 0.

        Raises:
          ValueError: there are more or fewer labels than words.
        """
        ids, ends = self._tokenize(prompt)
        if labels is None:
            return ids, ends, [0] * len(ids)
        if len(labels) != sum(ends):
            raise ValueError(
                f"expected one label for each of the {sum(ends)} words of the prompt "
                f"{prompt[:80]!r}, got {len(labels)}"
            )
        left = iter(labels)
        return ids, ends, [int(not next(left)) if end else 0 for end in ends]

    def interleave(self, ids: Sequence[int], word_labels: Sequence[int]) -> list[int]:
        """Inserts the suffix after every misaligned word.

        Args:
          ids: the ids of a prompt.
          word_labels: one per id, 1 where a piece ends a misaligned word.

        Returns:
          The ids of the marked prompt, without end of sequence.
        """
        tokens: list[int] = []
        for i, label in zip(ids, word_labels, strict=True):
            tokens.append(int(i))
            if label:
                tokens.extend(self.mark_ids)
        return tokens

    def separate(
        self, tokens: Sequence[int], ids: Sequence[int], word_ends: Sequence[int]
    ) -> list[int]:
        """Reads the labels back: the inverse of `interleave`.

        Args:
          tokens: the ids of a marked prompt.
          ids: the ids of the prompt.
          word_ends: one per id, 1 where a piece ends a word.

        Returns:
          One label per id, 1 where a piece ends a misaligned word.

        Raises:
          ValueError: `tokens` are not this prompt with marks.
        """
        tokens, marks = [int(i) for i in tokens], list(self.mark_ids)
        labels = []
        at = 0
        for i, end in zip(ids, word_ends, strict=True):
            if tokens[at : at + 1] != [int(i)]:
                break
            at += 1
            # The text after a word begins with a delimiter, unlike the suffix.
            marked = bool(end) and tokens[at : at + len(marks)] == marks
            at += len(marks) * marked
            labels.append(int(marked))
        if len(labels) < len(ids) or at < len(tokens):
            raise ValueError(
                f"tokens {tokens[:32]} are not the prompt {list(ids)[:32]} with "
                f"{marks} after some of its words; they differ at token {at}"
            )
        return labels

    def serialized(self) -> bytes:
        """Returns the content of the model file, as stored in checkpoints."""
        return self._model

    def save(self, path: str | pathlib.Path) -> None:
        """Writes the model file."""
        pathlib.Path(path).write_bytes(self._model)

    def _tokenize(self, text: str) -> tuple[list[int], list[int]]:
        """Returns the canonical ids, and for each whether it ends a word."""
        ids: list[int] = []
        ends: list[int] = []
        for chunk in text.split(" "):
            # A piece can contain a space only as its first character, so the text
            # between spaces is tokenised separately, and cached.
            segment = (
                self._remembered if len(chunk) <= _CACHED_LENGTH else self._segment
            )
            some_ids, some_ends = segment(chunk)
            ids += some_ids
            ends += some_ends
        return ids, ends

    def _segment(self, chunk: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Tokenises a text without spaces, as `_tokenize` does."""
        ids: list[int] = []
        ends: list[int] = []
        done = 0
        for _, end in words.spans(chunk):
            # A word of, say, tabs only has no pieces: it becomes the unknown piece.
            pieces = self._encode(chunk, done, end) or [UNK_ID]
            ids += pieces
            ends += [0] * (len(pieces) - 1) + [1]
            done = end
        if done < len(chunk):
            pieces = self._encode(chunk, done, len(chunk))
            ids += pieces
            ends += [0] * len(pieces)
        return tuple(ids), tuple(ends)

    def _encode(self, chunk: str, start: int, end: int) -> list[int]:
        # SentencePiece needs UTF-8, which cannot encode a lone surrogate.
        text = chunk[start:end].encode("utf-8", "replace").decode("utf-8")
        return (self._inner if start else self._whole).encode(text)


@functools.lru_cache(8)
def load(path: str = "scenes") -> Vocabulary:
    """Loads a vocabulary once per process; see `Vocabulary`."""
    return Vocabulary(path)


def _read(path: pathlib.Path) -> bytes:
    try:
        return storage.read_bytes(path)
    except OSError as error:
        raise ValueError(
            f"config.input.vocabulary={str(path)!r} cannot be read "
            f"({error.strerror or error}); expected a SentencePiece .model file, such "
            "as T5's spiece.model, or 'scenes' for the built-in one"
        ) from error


def _processor(
    model: bytes, path: pathlib.Path
) -> sentencepiece.SentencePieceProcessor:
    processor = sentencepiece.SentencePieceProcessor()
    try:
        processor.LoadFromSerializedProto(model)
        if not processor.get_piece_size():
            raise RuntimeError("no pieces")
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f"config.input.vocabulary={str(path)!r} is not a SentencePiece model "
            f"({len(model)} bytes; is it a git-lfs pointer or an incomplete "
            f"download?): {error}"
        ) from error
    return processor


def _check_conventions(
    processor: sentencepiece.SentencePieceProcessor, path: pathlib.Path
) -> None:
    ids = (processor.pad_id(), processor.eos_id(), processor.unk_id())
    if ids != (PAD_ID, EOS_ID, UNK_ID):
        raise ValueError(
            f"vocabulary {path} has pad, end of sequence, unknown = {ids}; "
            f"expected T5's {(PAD_ID, EOS_ID, UNK_ID)} "
            "(train with --pad_id=0 --eos_id=1 --unk_id=2 --bos_id=-1)"
        )
    spaced = processor.encode("a a")
    if spaced != 2 * processor.encode("a"):
        raise ValueError(
            f"vocabulary {path} does not begin the first word with {_SPACE!r} like all "
            "others; expected T5's add_dummy_prefix=true"
        )
