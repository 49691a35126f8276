"""Reads datasets that rahf has built, by index and without TensorFlow."""

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np

from rahf import images, targets
from rahf.datasets.row_digest import digest_rows
from rahf.targets import Kind


class BuiltRecords(Sequence[dict[str, Any]]):
    """One split of a dataset that `rahf.datasets.files.tfds_records` wrote.

    A record holds `uid`, `image` (uint8[H, W, 3]), `prompt` and the label fields
    that are known (docs/data.md). Records are decoded on demand, and the files are
    opened in the process that reads them.

    Args:
      split: "train", "dev" or "test".
      data_dir: the data directory that holds the dataset, as `tfds.load` takes it;
        "" is TFDS's default.

    Raises:
      ValueError: the dataset or split does not exist, or a record is damaged.
    """

    #: The dataset's name, the section of `config.input` with its `data_dir`, and how to
    #: build it.
    name: ClassVar[str]
    section: ClassVar[str]
    remedy: ClassVar[str]

    def __init__(self, split: str, data_dir: str | os.PathLike = ""):
        self.split, self.data_dir = split, os.fspath(data_dir)
        self._length = len(self._source)

    @classmethod
    def from_options(cls, split: str, options: Mapping[str, Any]) -> Self:
        """Opens a split of the dataset that `config.input` names."""
        return cls(split, (options.get(cls.section) or {}).get("data_dir", ""))

    def __len__(self) -> int:
        return self._length

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.split!r}, {self.data_dir!r})"

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "_source"}

    @functools.cached_property
    def _source(self) -> Any:
        from rahf.datasets.files import tfds_records

        return tfds_records.Source(
            self.name,
            self.split,
            self.data_dir,
            option=f"config.input.{self.section}.data_dir",
            remedy=self.remedy,
        )

    def digest(self) -> str:
        """Returns the SHA-256 of the split's entry in the dataset's description.

        That is the numbers of records and of bytes: no record is read, and a label
        that was replaced by another of the same length goes unnoticed.
        """
        return digest_rows([[self.name, self.split, *self._source.sizes]])

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"record {index} of {len(self)} in {self!r}")
        index = int(index) % len(self)
        try:
            stored = self._source[index]
        except Exception as error:  # array_record raises several kinds
            raise ValueError(f"{self!r}, record {index} is damaged: {error}") from error
        uid = stored["uid"].decode()
        masked = {name.decode() for name in stored["masked"]}
        readers = {"image": images.read_image}
        readers |= {
            row.field: _READERS[row.kind]
            for row in targets.select(targets.FEEDBACK)
            if row.field not in masked
        }
        record: dict[str, Any] = {"uid": uid, "prompt": stored["prompt"].decode()}
        for field, read in readers.items():
            try:
                record[field] = read(stored[field])
            except images.ImageError as error:
                raise ValueError(
                    f"{self!r}, record {uid!r}, field {field!r}: {error}"
                ) from error
        return record


_READERS: dict[Kind, Callable[[Any], Any]] = {
    Kind.HEATMAP: images.read_map,
    Kind.SCORE: float,
    Kind.WORDS: np.asarray,
}
