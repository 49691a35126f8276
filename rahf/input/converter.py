"""From task features to model features: batches of static shape.

Every target of the config has its array and its weights in every batch, so a batch
may hold any mix of tasks; an example that does not answer a target has weight 0
there.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np

from rahf.input.features import FEATURES
from rahf.input.vocabulary import PAD_ID
from rahf.models.batch import batch_spec, make_arrays
from rahf.targets import Kind, get, select

Example = Mapping[str, np.ndarray]
Batch = dict[str, Any]

_TOKENS = ("inputs", "prompt", "word_ends", "word_labels", "targets")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Converter:
    """Converts lists of examples to batches.

    Attributes:
      targets: the names that a batch has arrays for (config.task.targets).
      image_size: S.
      text_length: L, encoder tokens.
      target_length: T, decoder tokens.
      task: name of the task or mixture, for error messages.
    """

    targets: tuple[str, ...]
    image_size: int
    text_length: int
    target_length: int
    task: str = ""

    @classmethod
    def from_config(cls, config) -> Self:
        """Makes the converter of a training config."""
        return cls(
            targets=tuple(config.task.targets),
            image_size=config.input.image_size,
            text_length=config.input.text_length,
            target_length=config.input.target_length,
            task=config.task.get("name", ""),
        )

    def __post_init__(self):
        select(self.targets)  # unknown names fail here, before any data

    def __call__(self, examples: Sequence[Example], batch_size: int = 0) -> Batch:
        """Makes one batch.

        Args:
          examples: task features (`rahf.input.features.FEATURES`); strings may be
            bytes, as TensorFlow has them.
          batch_size: B, at least as many as there are examples (0: as many). The
            rows beyond them are zero and weigh nothing.

        Returns:
          The arrays of `rahf.models.batch.batch_spec`. Of a target of kind WORD_PRESENCE they
          are the prompt's pieces, negative in misaligned words; a weight is 1 where the
          example answers that target.

        Raises:
          ValueError: an example has a wrong dtype, rank, length or target.
        """
        size = batch_size or len(examples)
        if len(examples) > size:
            raise ValueError(
                f"{len(examples)} examples do not fit batch_size={batch_size}"
            )
        batch = self._empty(size)
        for row, example in enumerate(examples):
            self._check(example)
            batch["image"][row] = example["image"]
            for name in ("inputs", "prompt", "word_ends", "word_labels"):
                batch[name][row, : len(example[name])] = example[name]
            self._answer(batch, row, example)
        return batch

    def infos(self, examples: Sequence[Example]) -> list[dict[str, Any]]:
        """Returns who the examples are.

        Returns:
          One dict per example: `uid`, `prompt`, `truncated` (whether the prompt
          did not fit) and `targets`, the names it answers.
        """
        return [
            {
                "uid": _string(example["uid"][0]),
                "prompt": _string(example["text"][0]),
                "truncated": bool(example["truncated"][0]),
                "targets": [_string(name) for name in example["target_names"]],
            }
            for example in examples
        ]

    def _empty(self, size: int) -> Batch:
        assert PAD_ID == 0  # what empty arrays hold
        spec = batch_spec(
            self.targets,
            batch_size=size,
            image_size=self.image_size,
            text_length=self.text_length,
            target_length=self.target_length,
        )
        return make_arrays(spec)

    def _answer(self, batch: Batch, row: int, example: Example) -> None:
        """Writes what one example answers into its row of the batch."""
        taken = {Kind.HEATMAP: 0, Kind.SCORE: 0}
        for name in map(_string, example["target_names"]):
            if name not in batch["targets"]:
                raise self._error(
                    example,
                    "target_names",
                    f"target {name!r} is not in config.task.targets="
                    f"{self.targets}; add it there, or train on a task without it",
                )
            kind = get(name).kind
            batch["weights"][name][row] = 1.0
            if kind in taken:
                feature = "heatmaps" if kind is Kind.HEATMAP else "scores"
                index = taken[kind]
                taken[kind] += 1
                if index >= len(example[feature]):
                    raise self._error(
                        example,
                        feature,
                        f"expected one for each {kind.value} in target_names="
                        f"{list(map(_string, example['target_names']))}, "
                        f"got {len(example[feature])}",
                    )
                batch["targets"][name][row] = example[feature][index]
            else:
                pieces = kind is Kind.WORD_PRESENCE
                tokens = _word_presence(example) if pieces else example["targets"]
                batch["targets"][name][row, : len(tokens)] = tokens

    def _check(self, example: Example) -> None:
        """Raises ValueError unless dtypes, ranks and lengths are as declared."""
        for name, (dtype, rank) in FEATURES.items():
            if name not in example:
                raise self._error(
                    example, name, f"it is missing; the example has {sorted(example)}"
                )
            value = example[name]
            right = (
                value.dtype.kind in "USO" if dtype == "str" else value.dtype == dtype
            )
            if not right or value.ndim != rank:
                raise self._error(
                    example,
                    name,
                    f"expected {dtype} of rank {rank}, got {value.dtype} of rank "
                    f"{value.ndim}",
                )
        size = self.image_size
        for name, expected in (
            ("image", (size, size, 3)),
            ("heatmaps", (len(example["heatmaps"]), size, size)),
        ):
            if example[name].shape != expected:
                raise self._error(
                    example,
                    name,
                    f"expected shape {expected}, got {example[name].shape}; "
                    "config.input.image_size says what it must be",
                )
        for name in _TOKENS:
            option = "text_length" if name == "inputs" else "target_length"
            limit, got = getattr(self, option), len(example[name])
            if got > limit:
                raise self._error(
                    example,
                    name,
                    f"expected at most {limit} tokens, got {got}; shorten it in the "
                    f"task or raise config.input.{option}",
                )
        lengths = [len(example[n]) for n in ("prompt", "word_ends", "word_labels")]
        if len(set(lengths)) > 1:
            raise self._error(
                example,
                "word_ends",
                f"prompt, word_ends, word_labels must be of one length, got {lengths}",
            )

    def _error(self, example: Example, feature: str, message: str) -> ValueError:
        uid = _string(example["uid"][0]) if "uid" in example else "?"
        return ValueError(
            f"task {self.task or '?'}, record {uid!r}, feature {feature!r}: {message}"
        )


def _word_presence(example: Example) -> np.ndarray:
    """int32[T] the prompt's pieces, negative where they belong to a misaligned word."""
    word = np.cumsum(example["word_ends"]) - example["word_ends"]  # of each piece
    misaligned = np.bincount(word, example["word_labels"])[word] > 0
    return np.where(misaligned, -example["prompt"], example["prompt"])


def _string(value: Any) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)
