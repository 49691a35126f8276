"""Pairs of images and people's choices, to learn from: Pick-a-Pic, or files in its form.

`config.input.pick_a_pic` has

    path     a Parquet file, or a folder of them (`rahf.datasets.preference_pairs` has the
             columns), such as a copy of Pick-a-Pic v1 or what rahf.bin.select wrote
    train, dev, test     the prefix of each split's files in the folder
    dev_share            the share of the training prompts to take for dev instead of
                         files of its own; 0 = none
    margin               the column with the margin of each pair; "" = none

Labels may also be shares of several people's votes, that add up to 1.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from rahf import images
from rahf.datasets import splits
from rahf.datasets.files import parquet
from rahf.datasets.richhf import pickapic
from rahf.datasets.row_digest import digest_rows

_IMAGES = tuple(pickapic.SIDES.values())
_COLUMNS = (*pickapic.SIDES, pickapic.PROMPT, "label_0", "label_1", "has_label")
_KEY = "config.input.pick_a_pic"


@dataclasses.dataclass(frozen=True)
class PickAPicOptions:
    """Where pairs are and how they are split; see the top of this module."""

    path: str = ""
    train: str = "train"
    dev: str = "validation_unique"
    test: str = "test_unique"
    dev_share: float = 0.0
    margin: str = ""

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> "PickAPicOptions":
        """Reads `pick_a_pic` of `config.input`; raises ValueError if it is invalid."""
        given = dict(options.get("pick_a_pic") or {})
        known = [field.name for field in dataclasses.fields(cls)]
        if unknown := sorted(set(given) - set(known)):
            raise ValueError(
                f"{_KEY} has no option {', '.join(unknown)}; it has {', '.join(known)}"
            )
        found = cls(**given)
        if not found.path:
            raise ValueError(f"{_KEY}.path is not set; name a Parquet file or a folder")
        if not 0 <= found.dev_share < 1:
            raise ValueError(f"{_KEY}.dev_share={found.dev_share} must be in [0, 1)")
        return found


@dataclasses.dataclass(frozen=True)
class _Columns:
    """All columns but the images, of labelled rows and others."""

    shards: tuple[pathlib.Path, ...]
    starts: tuple[int, ...]  # the first row of each shard
    values: Mapping[str, list[Any]]

    def where(self, row: int) -> str:
        shard = int(np.searchsorted(self.starts, row, side="right")) - 1
        return f"{self.shards[shard]}, row {row - self.starts[shard]}"


class PickAPicPairs(Sequence[dict[str, Any]]):
    """The labelled pairs of a split, as records of `rahf.input.pairs`.

    Labels, uids and prompts are kept in memory. Images are read on demand with their
    row group (`rahf.datasets.files.parquet.Cells`), and resized at once, as nothing in
    such a record depends on positions in the image. What is wrong with a pair is an
    error when it is read.

    Attributes:
      unlabelled: number of rows of its files without a choice, which are left out.
    """

    def __init__(
        self, split: str, options: PickAPicOptions, *, score: str, image_size: int
    ):
        """Reads all columns but the images.

        Args:
          split: "train", "dev" or "test".
          options: where the pairs are.
          score: the score that people's choices are taken to be about.
          image_size: side to resize images to, in pixels.

        Raises:
          ValueError: the split does not exist, or a file is damaged or lacks a column.
        """
        if split not in splits.SPLITS:
            raise ValueError(
                f"pairs have no split {split!r}; known: {', '.join(splits.SPLITS)}"
            )
        held_out = split == "dev" and options.dev_share > 0
        prefix = options.train if held_out else getattr(options, split)
        self._split, self._margin = split, options.margin
        self._field, self._size = f"{score}_preference", (image_size, image_size)
        shards = tuple(parquet.find_shards(options.path, prefix, below=True))
        self._columns = _read(shards, options.margin, _changed(shards))
        self._images = [parquet.Cells(shards, name) for name in _IMAGES]
        labelled = [bool(x) for x in self._columns.values["has_label"]]
        self.unlabelled = len(labelled) - sum(labelled)
        rows = np.flatnonzero(labelled)
        if options.dev_share and split in ("train", "dev"):
            rows = rows[self._cut(rows, options.dev_share) == split]
        self._rows = rows

    def _cut(self, rows: np.ndarray, share: float) -> np.ndarray:
        prompts = self._columns.values[pickapic.PROMPT]
        groups = [splits.name_group(str(prompts[r]), str(r)) for r in rows.tolist()]
        return splits.cut(groups, dev_share=share, test_share=0, option=f"{_KEY}.")

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = int(self._rows[index])
        value = {name: cells[row] for name, cells in self._columns.values.items()}
        where = self._columns.where(row)
        texts = (*pickapic.SIDES, pickapic.PROMPT)
        if wrong := [name for name in texts if not isinstance(value[name], str)]:
            raise ValueError(
                f"{where}: field {wrong[0]!r} must be text, got {value[wrong[0]]!r:.60}"
            )
        first, second = (
            {
                "uid": value[uid],
                "image": self._image(cells, row, f"{where}: field {name!r}"),
                "prompt": value[pickapic.PROMPT],
            }
            for (uid, name), cells in zip(
                pickapic.SIDES.items(), self._images, strict=True
            )
        )
        record = {**first, "other": second, self._field: _chance(value, where)}
        if self._margin:
            record["margin"] = value[self._margin]
        return record

    def _image(self, cells: parquet.Cells, row: int, where: str) -> np.ndarray:
        data = pickapic.image_bytes(cells[row])
        if data is None:
            raise ValueError(
                f"{where} has no image: expected it encoded, as bytes or {{bytes, path}}"
            )
        try:
            return images.resize(images.read_image(data), self._size)
        except images.ImageError as error:
            raise ValueError(f"{where}: {error}") from error

    def digest(self) -> str:
        """Returns the SHA-256 of the split's rows without their images, in order."""

        def rows() -> Iterator[Sequence[Any]]:
            names = sorted(self._columns.values)
            yield [self._split, self._field, *names]
            for row in self._rows.tolist():
                yield [self._columns.values[name][row] for name in names]

        return digest_rows(rows())


def _chance(value: Mapping[str, Any], where: str) -> float:
    """Returns the share of votes for the first image."""
    labels = (value["label_0"], value["label_1"])
    numbers = all(isinstance(x, int | float) and 0 <= x <= 1 for x in labels)
    if not numbers or abs(sum(labels) - 1) > 1e-3:
        raise ValueError(
            f"{where}: expected label_0 and label_1 to be 1 and 0, 0 and 1, 0.5 and 0.5, "
            f"or shares of votes in [0, 1] that add up to 1, got {labels[0]} and "
            f"{labels[1]}"
        )
    return float(labels[0])


def _changed(shards: Sequence[pathlib.Path]) -> tuple[int, ...]:
    return tuple(shard.stat().st_mtime_ns for shard in shards)


@functools.lru_cache(4)
def _read(
    shards: tuple[pathlib.Path, ...], margin: str, changed: tuple[int, ...]
) -> _Columns:
    del changed  # times of the files, part of the cache's key
    names = [*_COLUMNS, *([margin] if margin else [])]
    values: dict[str, list[Any]] = {name: [] for name in names}
    starts = []
    for shard in shards:
        starts.append(len(values["has_label"]))
        file = parquet.open_shard(shard, [*names, *_IMAGES])
        for group in range(file.metadata.num_row_groups):
            table = parquet.read_column(shard, file, group, names)
            for name in names:
                values[name] += table.column(name).to_pylist()
    return _Columns(shards, tuple(starts), values)


def pick_a_pic_pairs(
    split: str, options: Mapping[str, Any], *, score: str
) -> PickAPicPairs:
    """Returns the pairs of a split, as configured in `config.input`.

    Args:
      split: "train", "dev" or "test".
      options: `image_size`, and `PickAPicOptions` under `pick_a_pic`.
      score: the score that people's choices are taken to be about.

    Raises:
      ValueError: an option is wrong, or a file is missing or damaged.
    """
    chosen = PickAPicOptions.from_options(options)
    size = options["image_size"]
    return PickAPicPairs(split, chosen, score=score, image_size=size)
