"""Makes task features from records: a question about an image, and its answer.

A record is a plain dict with the field names of RichHF-18K (docs/data.md). Task
features have the same keys for every task, so that tasks can be mixed, as seqio
requires. Labels are therefore packed: `target_names` lists the targets of an example,
and `unpack` returns each target's label.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np

from rahf import images, targets, words
from rahf.input import pairs, soft_words
from rahf.input.vocabulary import EOS_ID, PAD_ID, Vocabulary
from rahf.targets import Kind, Target

#: Feature -> (dtype, rank); S image size, L text length, T target length. The last
#: three identify the example.
FEATURES: dict[str, tuple[str, int]] = {
    "image": ("uint8", 3),  # [S, S, 3]
    "inputs": ("int32", 1),  # [<= L] the encoder's text and end of sequence
    "target_names": ("str", 1),  # [n] the targets of this example
    "heatmaps": ("float32", 3),  # [n_heatmaps, S, S] in the order of target_names
    "scores": ("float32", 1),  # [n_scores] in the order of target_names
    "targets": ("int32", 1),  # [<= T] the decoder's target text; [0] = none
    "prompt": ("int32", 1),  # [<= T] the plain prompt and end of sequence
    "word_ends": ("int32", 1),  # like prompt: 1 where a piece ends a word
    "word_labels": ("int32", 1),  # like prompt: 1 where it ends a misaligned word
    "uid": ("str", 1),  # [1]
    "text": ("str", 1),  # [1] the original prompt
    "truncated": ("int32", 1),  # [1] 1 if the prompt did not fit
}

#: Ways to read a prompt, see `FeatureMaker`.
PROMPTS = ("whole", "words", "none")


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureMaker:
    """Makes task features from records.

    Attributes:
      vocabulary: the vocabulary of all texts.
      image_size: S. Images and maps are resized to S x S, bilinearly, whatever their
        aspect ratio.
      text_length: L, the maximum number of encoder tokens, with end of sequence.
      target_length: T, the maximum number of decoder tokens, with end of sequence.
      prompts: "whole" for prompts as they are, or "words" for their words joined by
        spaces without punctuation, as in the first author's release; "none" if the
        model reads no prompt, so that none can be too long.
    """

    vocabulary: Vocabulary
    image_size: int
    text_length: int
    target_length: int
    prompts: str = "whole"

    def __post_init__(self):
        if self.prompts not in PROMPTS:
            raise ValueError(
                f"config.input.prompts={self.prompts!r} is unknown; options: "
                f"{', '.join(map(repr, PROMPTS))}"
            )

    @classmethod
    def from_config(cls, config, vocabulary: Vocabulary) -> Self:
        """Makes the feature maker that `config.input` describes."""
        i = config.input
        return cls(
            vocabulary=vocabulary,
            image_size=i.image_size,
            text_length=i.text_length,
            target_length=i.target_length,
            prompts=i.get("prompts", "whole"),
        )

    def make(
        self,
        record: Mapping[str, Any],
        names: Sequence[str],
        *,
        augment: bool,
        task: str = "",
    ) -> dict[str, np.ndarray]:
        """Makes the task features of one record.

        A target whose label is missing is omitted from `target_names`, so that its
        weight is 0. A score of NaN, a map without pixels and negative word labels also
        count as missing, because tensors cannot be absent.

        Args:
          record: `uid`, `image` uint8[H, W, 3], `prompt`, and labels by field name:
            maps float32[H, W] in [0, 1], scores in [0, 1], word labels
            int8[num_words].
          names: the targets to ask for.
          augment: whether the encoder's text names the target, of which there must
            then be only one. A caption is always asked for like this, without the
            prompt.
          task: the name of the task, for error messages.

        Returns:
          The features of `FEATURES`, by name; of an example of Kind.SOFT_WORDS also
          `soft_words` float32[<= T, 3], see `rahf.input.soft_words`; of one of
          Kind.PREFERENCE `choices` and `partner`, see `rahf.input.pairs`.

        Raises:
          ValueError: a field is missing or malformed; names task, uid and field.
        """
        where = _Where(task, record.get("uid", "?"))
        asked = targets.select(names)
        _check_asked(asked, augment, where)
        prompt = str(where.field(record, "prompt"))
        if self.prompts == "words":
            prompt = " ".join(words.split(prompt))
        elif self.prompts == "none":
            prompt = ""
        answered = [row for row in asked if _has_label(record, row)]
        labels, chances = None, None
        for row in answered:
            if row.kind in (Kind.WORDS, Kind.WORD_PRESENCE):
                labels = record[row.field]
            elif row.kind is Kind.SOFT_WORDS:
                chances = np.asarray(record[row.field])
        if chances is not None:  # the text is marked as the teacher would mark it
            labels = soft_words.labels(chances)
        try:
            ids, ends, marks = self.vocabulary.encode_words(prompt, labels)
        except ValueError as error:
            raise where.error(str(error)) from None

        inputs = self._inputs(ids, asked, augment, where)
        text, longest = self._decoder_text(record, answered, ids, marks)
        kept = self.target_length - 1
        truncated = len(inputs) >= self.text_length or len(ids) > kept or longest > kept
        if len(ids) > kept:  # pieces that are cut off would count as not shown
            answered = [row for row in answered if row.kind is not Kind.WORD_PRESENCE]
        features = {
            "image": _image(where.field(record, "image"), self.image_size, where),
            "inputs": _ints([*inputs[: self.text_length - 1], EOS_ID]),
            "target_names": np.array([row.name for row in answered], np.str_),
            "heatmaps": _heatmaps(record, answered, self.image_size, where),
            "scores": _scores(record, answered, where),
            "targets": _ints(text),
            "prompt": _ints([*ids[:kept], EOS_ID]),
            "word_ends": _ints([*ends[:kept], 0]),
            "word_labels": _ints([*marks[:kept], 0]),
            "uid": np.array([str(where.uid)], np.str_),
            "text": np.array([record["prompt"]], np.str_),
            "truncated": _ints([truncated]),
        }
        if chances is not None:
            marks_of = self.vocabulary.mark_ids
            soft = soft_words.soften(text, ids, ends, chances, marks_of)
            features |= {"soft_words": soft}
        if pairs.has_pairs([row.name for row in answered]):
            features |= pairs.features(record, answered, where)
        return features

    def _inputs(
        self, ids: Sequence[int], asked: Sequence[Target], augment: bool, where
    ) -> Sequence[int]:
        """Returns the encoder's text before truncation."""
        captions = [row for row in asked if row.kind is Kind.CAPTION]
        if captions:
            return self.vocabulary.encode(captions[0].prompt)
        if not augment:
            return ids
        # The prefix ends in a space, so the two can be tokenised separately.
        prefix = self.vocabulary.encode(asked[0].prompt)
        if len(prefix) + 1 >= self.text_length:
            raise where.error(
                f"config.input.text_length={self.text_length} has no room for a prompt "
                f"after the {len(prefix)} tokens of {asked[0].prompt!r}"
            )
        return [*prefix, *ids]

    def _decoder_text(
        self,
        record: Mapping[str, Any],
        answered: Sequence[Target],
        ids: Sequence[int],
        marks: Sequence[int],
    ) -> tuple[list[int], int]:
        """Returns the decoder's text, truncated to T, and its length before that."""
        text, longest = [PAD_ID], 0
        for row in answered:
            if row.kind in (Kind.WORDS, Kind.SOFT_WORDS):
                suffix = len(self.vocabulary.mark_ids)
                sizes = np.cumsum([1 + suffix * mark for mark in marks])
                longest = int(sizes[-1]) if len(marks) else 0
                kept = int((sizes < self.target_length).sum())  # no partial marks
                marked = self.vocabulary.interleave(ids[:kept], marks[:kept])
                text = [*marked, EOS_ID]
            elif row.kind is Kind.CAPTION:
                caption = self.vocabulary.encode(str(record[row.field]))
                longest = len(caption)
                text = [*caption[: self.target_length - 1], EOS_ID]
        return text, longest


def _check_asked(asked: Sequence[Target], augment: bool, where: "_Where") -> None:
    """Raises ValueError for targets that one example cannot have together."""
    if augment and len(asked) != 1:
        raise where.error(
            f"an augmented prompt asks for one target, got {len(asked)}: "
            f"{', '.join(row.name for row in asked)}"
        )
    kinds = (Kind.WORDS, Kind.CAPTION, Kind.SOFT_WORDS)
    texts = [row for row in asked if row.kind in kinds]
    if len(texts) > 1:
        raise where.error(
            "the decoder produces one text per example, but two targets need one: "
            + " and ".join(row.name for row in texts)
        )


def unpack(example: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the label of each target that an example has.

    Args:
      example: task features; strings may be bytes, as in TensorFlow.

    Returns:
      Labels by target: heatmaps float32[S, S], scores float32[], the decoder's text for
      words and captions int32[<= T]; for WORD_PRESENCE int32[<= T], the prompt's
      pieces, negative in misaligned words; for SOFT_WORDS float32[<= T, 3]; for
      PREFERENCE float32[2].

    Raises:
      ValueError: a target is unknown, or there are fewer heatmaps or scores than
        targets.
    """
    labels: dict[str, np.ndarray] = {}
    packed = {
        Kind.HEATMAP: "heatmaps",
        Kind.SCORE: "scores",
        Kind.PREFERENCE: "choices",
    }
    left = {kind: iter(example.get(name, ())) for kind, name in packed.items()}
    names = [as_text(name) for name in example["target_names"]]
    for name in names:
        kind = targets.get(name).kind
        if kind is Kind.WORD_PRESENCE:
            labels[name] = _word_presence(example)
        elif kind is Kind.SOFT_WORDS:
            labels[name] = example["soft_words"]
        elif kind not in packed:
            labels[name] = example["targets"]
        elif (label := next(left[kind], None)) is not None:
            labels[name] = label
        else:
            raise ValueError(
                f"feature {packed[kind]!r}: expected one for each {kind.value} in "
                f"target_names={names}, got {len(example.get(packed[kind], ()))}"
            )
    return labels


def as_text(value: str | bytes) -> str:
    """Returns a string feature, which is bytes if it came from TensorFlow."""
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def _word_presence(example: Mapping[str, np.ndarray]) -> np.ndarray:
    # The index of each piece's word.
    word = np.cumsum(example["word_ends"]) - example["word_ends"]
    misaligned = np.bincount(word, example["word_labels"])[word] > 0
    return np.where(misaligned, -example["prompt"], example["prompt"])


class _Where:
    """The current task and record, for error messages."""

    def __init__(self, task: str, uid: Any):
        self.task, self.uid = task, uid

    def error(self, message: str) -> ValueError:
        task = f"task {self.task}, " if self.task else ""
        return ValueError(f"{task}record {self.uid!r}: {message}")

    def field(self, record: Mapping[str, Any], name: str) -> Any:
        if name not in record:
            raise self.error(
                f"field {name!r} is missing; the record has {', '.join(record)}"
            )
        return record[name]


def _has_label(record: Mapping[str, Any], row: Target) -> bool:
    label = record.get(row.field)
    if label is None:
        return False
    if row.kind is Kind.SCORE:
        return not np.isnan(label)
    if row.kind is Kind.HEATMAP:
        return np.size(label) > 0
    if row.kind in (Kind.WORDS, Kind.WORD_PRESENCE, Kind.SOFT_WORDS):
        return np.size(label) == 0 or np.min(label) >= 0
    return True


def _image(image: Any, size: int, where: _Where) -> np.ndarray:
    image = np.asarray(image)
    rgb = image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
    if not rgb or not image.size:
        raise where.error(
            "field 'image' must be uint8[H, W, 3] with at least one pixel, got "
            f"{image.dtype}{list(image.shape)}"
        )
    return images.resize(image, (size, size))


def _heatmaps(
    record: Mapping[str, Any], rows: Sequence[Target], size: int, where: _Where
) -> np.ndarray:
    """Returns float32[n_heatmaps, size, size]."""
    rows = [row for row in rows if row.kind is Kind.HEATMAP]
    maps = np.zeros((len(rows), size, size), np.float32)
    for index, row in enumerate(rows):
        given = np.asarray(record[row.field])
        if given.ndim != 2 or given.dtype.kind != "f":
            raise where.error(
                f"field {row.field!r} must be float32[H, W] in [0, 1], got "
                f"{given.dtype}{list(given.shape)}"
            )
        if not (given.min() >= 0 and given.max() <= 1):
            raise where.error(
                f"field {row.field!r} must be in [0, 1], got "
                f"[{given.min()}, {given.max()}]"
            )
        maps[index] = images.resize(given, (size, size))
    return maps


def _scores(
    record: Mapping[str, Any], rows: Sequence[Target], where: _Where
) -> np.ndarray:
    """Returns float32[n_scores]."""
    scores = [float(record[row.field]) for row in rows if row.kind is Kind.SCORE]
    if not all(0 <= score <= 1 for score in scores):
        fields = [row.field for row in rows if row.kind is Kind.SCORE]
        raise where.error(
            f"scores must be in [0, 1], got {dict(zip(fields, scores, strict=True))}"
        )
    return np.array(scores, np.float32)


def _ints(values: Sequence[int]) -> np.ndarray:
    return np.array(values, np.int32)
