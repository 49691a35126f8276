"""Converts task features to model features: batches of static shape.

Every batch has an array and weights for every target of the config, so that it can mix
tasks; an example without a target has weight 0 for it.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np

from rahf.input import pairs
from rahf.input.features import FEATURES, as_text, unpack
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
      targets: names of the targets in a batch (config.task.targets).
      image_size: S, the side of images and maps.
      text_length: L, the number of encoder tokens.
      target_length: T, the number of decoder tokens.
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
            bytes, as in TensorFlow.
          batch_size: B, at least the number of examples; 0 means equal to it.
            Remaining rows are zero and have weight 0.

        Returns:
          The arrays of `rahf.models.batch.batch_spec`. Those of a WORD_PRESENCE target
          are the prompt's pieces, negative in misaligned words; a weight is 1 if the
          example has that target.

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
            self._check_pair(examples, row)
            batch["image"][row] = example["image"]
            for name in ("inputs", "prompt", "word_ends", "word_labels"):
                batch[name][row, : len(example[name])] = example[name]
            self._answer(batch, row, example)
        return batch

    def infos(self, examples: Sequence[Example]) -> list[dict[str, Any]]:
        """Describes the examples.

        Returns:
          One dict per example: `uid`, `prompt`, `truncated` (whether the prompt
          did not fit) and `targets`, the names of the targets it has.
        """
        return [
            {
                "uid": as_text(example["uid"][0]),
                "prompt": as_text(example["text"][0]),
                "truncated": bool(example["truncated"][0]),
                "targets": [as_text(name) for name in example["target_names"]],
            }
            for example in examples
        ]

    def _empty(self, size: int) -> Batch:
        assert PAD_ID == 0  # the value in empty arrays
        spec = batch_spec(
            self.targets,
            batch_size=size,
            image_size=self.image_size,
            text_length=self.text_length,
            target_length=self.target_length,
        )
        return make_arrays(spec)

    def _answer(self, batch: Batch, row: int, example: Example) -> None:
        """Writes the targets of one example into its row of the batch."""
        try:
            labels = unpack(example)
        except ValueError as error:
            raise self._error(example, str(error)) from None
        for name, label in labels.items():
            if name not in batch["targets"]:
                raise self._error(
                    example,
                    f"feature 'target_names': target {name!r} is not in "
                    f"config.task.targets={self.targets}; add it there, or train on a "
                    f"task without it",
                )
            batch["weights"][name][row] = 1.0
            values = batch["targets"][name]
            if get(name).kind in (Kind.HEATMAP, Kind.SCORE, Kind.PREFERENCE):
                values[row] = label
            else:
                values[row, : len(label)] = label

    def _check(self, example: Example) -> None:
        """Raises ValueError unless dtypes, ranks and lengths are as declared."""

        def bad(feature: str, message: str) -> ValueError:
            return self._error(example, f"feature {feature!r}: {message}")

        for name, (dtype, rank) in FEATURES.items():
            if name not in example:
                raise bad(name, f"missing; the example has {sorted(example)}")
            value = example[name]
            right = (
                value.dtype.kind in "USO" if dtype == "str" else value.dtype == dtype
            )
            if not right or value.ndim != rank:
                raise bad(
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
                raise bad(
                    name,
                    f"expected shape {expected}, got {example[name].shape}; "
                    "config.input.image_size sets the size",
                )
        for name in _TOKENS:
            option = "text_length" if name == "inputs" else "target_length"
            limit, got = getattr(self, option), len(example[name])
            if got > limit:
                raise bad(
                    name,
                    f"expected at most {limit} tokens, got {got}; shorten it in the "
                    f"task or raise config.input.{option}",
                )
        lengths = [len(example[n]) for n in ("prompt", "word_ends", "word_labels")]
        if len(set(lengths)) > 1:
            raise bad(
                "word_ends",
                "prompt, word_ends and word_labels must have the same length, got "
                f"{lengths}",
            )

    def _check_pair(self, examples: Sequence[Example], row: int) -> None:
        """Raises ValueError if an example is of a pair whose other is not beside it."""
        if "choices" in examples[row]:
            beside = row ^ 1
            other = examples[beside] if beside < len(examples) else None
            if wrong := pairs.check_rows(examples[row], other):
                raise self._error(examples[row], f"one of a pair: {wrong}")

    def _error(self, example: Example, message: str) -> ValueError:
        uid = as_text(example["uid"][0]) if "uid" in example else "?"
        return ValueError(f"task {self.task or '?'}, record {uid!r}, {message}")
