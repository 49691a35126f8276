"""Trains a SentencePiece vocabulary that follows T5's conventions."""

import io
import pathlib
import string
import tempfile
import unicodedata
from collections.abc import Iterable, Iterator

import sentencepiece

from rahf import targets, words
from rahf.datasets.scenes import grammar
from rahf.input import vocabulary

_PROMPTS = 8000  # every word of the scenes grammar occurs many times in them

# Protobuf merges this into a serialized model to which it is appended: field 3
# (normalizer_spec), 2 bytes: field 6 (normalization_rule_tsv) = "".
_NO_RULES_PATH = b"\x1a\x02\x32\x00"

# Normalises Latin text like SentencePiece's default, but without its 240 kB table:
# white space becomes a space, typographic signs their plain forms.
_SIGNS = {
    **dict.fromkeys("\t\n\r\v\f\u00a0\u2002\u2003\u2009\u202f\u3000", " "),
    **dict.fromkeys("\u2018\u2019\u201a\u02bc", "'"),
    **dict.fromkeys("\u201c\u201d\u201e", '"'),
    **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212", "-"),
    "\u2026": "...",
}


def train(lines: Iterable[str], size: int) -> bytes:
    """Trains a unigram vocabulary.

    The result is deterministic: one thread, no sampling. Each line is also used after
    the prompt of a target, of all targets in turn, so that "HEATMAP", "implausibility"
    and the like become pieces.

    Args:
      lines: the prompts.
      size: the maximum number of pieces; the lines may yield fewer.

    Returns:
      The content of a `.model` file.

    Raises:
      ValueError: there are no lines, or `size` is too small for the characters.
    """
    lines = [line.strip() for line in lines]
    if not any(lines):
        raise ValueError("the input has no text to train a vocabulary on")
    model = io.BytesIO()
    with tempfile.TemporaryDirectory() as folder:
        rules = pathlib.Path(folder) / "rules.tsv"
        rules.write_text(_rules(), encoding="utf-8")
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=_sentences(lines),
                model_writer=model,
                model_type="unigram",
                vocab_size=size,
                hard_vocab_limit=False,
                pad_id=vocabulary.PAD_ID,
                eos_id=vocabulary.EOS_ID,
                unk_id=vocabulary.UNK_ID,
                bos_id=-1,
                user_defined_symbols=["<output>", "</output>", words.SUFFIX],
                required_chars="".join(c for c in string.printable if c > " "),
                character_coverage=1.0,
                normalization_rule_tsv=str(rules),
                num_threads=1,
                minloglevel=2,
            )
        except (RuntimeError, ValueError) as error:
            raise ValueError(
                f"SentencePiece cannot make {size} pieces of these {len(lines)} "
                f"lines: {error}"
            ) from error
    # The path of the rules would make the file differ between runs.
    processor = sentencepiece.SentencePieceProcessor()
    processor.LoadFromSerializedProto(model.getvalue() + _NO_RULES_PATH)
    return processor.serialized_model_proto()


def scenes_prompts() -> Iterator[str]:
    """Yields the prompts that the shipped vocabulary is trained on."""
    return grammar.corpus(_PROMPTS, 0)


def _sentences(lines: list[str]) -> Iterator[str]:
    rows = targets.select((*targets.FEEDBACK, "caption"))
    seen = set()
    for index, line in enumerate(lines):
        augmented = rows[index % len(rows)].prompt + line
        yield line
        yield augmented
        seen.update(words.split(augmented))
    # The trainer makes a string a piece only if two different tokens contain it: a
    # word that no delimiter ever follows would be divided into letters.
    for word in sorted(seen):
        yield f"{word} {word}, {word}; {word}."


def _rules() -> str:
    """Returns normalisation rules: code points, a tab, code points, in hex."""
    table = dict(_SIGNS)
    for code in range(0xC0, 0x180):  # accented Latin letters lose their accents
        plain = unicodedata.normalize("NFKD", chr(code))
        plain = "".join(c for c in plain if not unicodedata.combining(c))
        if plain.isascii():
            table[chr(code)] = plain
    rows = [
        f"{ord(source):X}\t{' '.join(f'{ord(c):X}' for c in target)}"
        for source, target in sorted(table.items())
    ]
    return "\n".join(rows) + "\n"
