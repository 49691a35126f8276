"""Pairs of images and which one people preferred, in Pick-a-Pic's Parquet format.

A row is one comparison (https://huggingface.co/datasets/yuvalkirstain/pickapic_v1):
`image_0_uid`, `image_1_uid` (text), `jpg_0`, `jpg_1` (encoded, as bytes or as the
`datasets` library's {bytes, path}), `caption`, `label_0`, `label_1` (1 = chosen,
0 = not chosen, 0.5 each for a tie) and `has_label`, false if nobody chose.
"""

import dataclasses
import pathlib
from collections.abc import Iterator
from typing import Any

from rahf.datasets.files import parquet
from rahf.datasets.richhf import pickapic

_IMAGES = tuple(pickapic.SIDES.values())
_COLUMNS = ("image_0_uid", "image_1_uid", "caption", "label_0", "label_1", "has_label")
_ROWS_AT_ONCE = 16


@dataclasses.dataclass(frozen=True)
class Pair:
    """One comparison.

    Attributes:
      uids: the uids of the two images.
      prompt: the prompt of both.
      label: 1 if the first was chosen, 0 if the second, 0.5 for a tie.
      images: the two encoded images, or None if they were not read.
      where: file and row, for error messages.
    """

    uids: tuple[str, str]
    prompt: str
    label: float
    images: tuple[bytes, bytes] | None
    where: str


class Preferences:
    """The comparisons in Parquet files, streamed in order.

    Only the columns above are read. Memory is bounded by one row group, however many
    files there are: pyarrow took 830 MB for one with 400 MB of images. Rows without a
    label are skipped and counted.

    Attributes:
      unlabelled: number of rows skipped in the last pass.
    """

    def __init__(self, path: str | pathlib.Path, split: str = "", *, images=True):
        """Finds the files.

        Args:
          path: a Parquet file, or a folder that is searched recursively, such as a
            copy of Pick-a-Pic's repository.
          split: prefix of the file names, `<split>-`, in a folder; Pick-a-Pic has
            "train", "validation_unique" and "test_unique". "" = all files.
          images: whether to read the images too.

        Raises:
          ValueError: no file is found, or one lacks a column.
        """
        self._shards = parquet.find_shards(path, split, below=True)
        self._columns = [*_COLUMNS, *(_IMAGES if images else ())]
        self.unlabelled = 0
        self._rows = sum(
            parquet.open_shard(shard, self._columns).metadata.num_rows
            for shard in self._shards
        )

    def __len__(self) -> int:
        """The number of rows, including those without a label."""
        return self._rows

    def __iter__(self) -> Iterator[Pair]:
        """Yields the labelled pairs.

        Raises:
          ValueError: a row is malformed; names file, row and field.
        """
        self.unlabelled = 0
        for shard in self._shards:
            for number, row in enumerate(self._rows_of(shard)):
                if row["has_label"]:
                    yield _pair(row, f"{shard}, row {number}")
                else:
                    self.unlabelled += 1

    def _rows_of(self, shard: pathlib.Path) -> Iterator[dict[str, Any]]:
        import pyarrow

        file = parquet.open_shard(shard, self._columns)
        try:
            for batch in file.iter_batches(
                _ROWS_AT_ONCE, columns=self._columns, use_threads=False
            ):
                yield from batch.to_pylist()
        except (pyarrow.ArrowException, OSError) as error:
            raise ValueError(
                f"{shard} is damaged ({error}); download it again"
            ) from error


def _pair(row: dict[str, Any], where: str) -> Pair:
    texts = ("image_0_uid", "image_1_uid", "caption")
    if wrong := [name for name in texts if not isinstance(row[name], str)]:
        raise ValueError(
            f"{where}: field {wrong[0]!r} must be text, got {row[wrong[0]]!r:.60}"
        )
    labels = (row["label_0"], row["label_1"])
    if labels not in ((1, 0), (0, 1), (0.5, 0.5)):
        raise ValueError(
            f"{where}: expected label_0 and label_1 to be 1 and 0, 0 and 1, or 0.5 "
            f"and 0.5, got {labels[0]} and {labels[1]}"
        )
    images = None
    if "jpg_0" in row:
        first, second = (pickapic.image_bytes(row[name]) for name in _IMAGES)
        if first is None or second is None:
            raise ValueError(
                f"{where}: fields jpg_0 and jpg_1 must be encoded images, as bytes or "
                "{bytes, path}"
            )
        images = (first, second)
    return Pair(
        uids=(row["image_0_uid"], row["image_1_uid"]),
        prompt=row["caption"],
        label=float(labels[0]),
        images=images,
        where=where,
    )
