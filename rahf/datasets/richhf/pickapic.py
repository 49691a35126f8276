"""Reads Pick-a-Pic v1's Parquet shards (190 GB) by row group and column."""

import dataclasses
import pathlib
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Self

from rahf.datasets.files import parquet
from rahf.datasets.richhf.joining import Picture
from rahf.datasets.richhf.labels import refuse_pointer

#: Column of the uid -> column of that image's bytes.
SIDES = {"image_0_uid": "jpg_0", "image_1_uid": "jpg_1"}
PROMPT = "caption"
COLUMNS = (*SIDES, *SIDES.values(), PROMPT)

#: A file of fewer bytes may be a git-lfs pointer.
SMALLEST = 1024
#: The number of rows decoded at a time.
BATCH_ROWS = 16
_EXPECTED = (
    f"strings {', '.join((*SIDES, PROMPT))} and encoded images "
    f"{', '.join(SIDES.values())}, as bytes or {{bytes, path}}"
)
# Per column being read. Without it Arrow reads whole column chunks.
_BUFFER_BYTES = 1 << 20


class ShardError(ValueError):
    """A Parquet file that cannot be read."""


@dataclasses.dataclass(frozen=True)
class Shard:
    """One Parquet file: its name relative to the folder, path, and size in bytes."""

    name: str
    path: str
    size: int


def find_shards(folder: str) -> list[Shard]:
    """Returns the Parquet files in a folder and its subfolders, sorted by name.

    With Pick-a-Pic's names, test* comes before train*; validation*, which has no image
    of RichHF-18K, comes last.

    Raises:
      ValueError: no file is found, or one is a git-lfs pointer.
    """
    root = pathlib.Path(folder)
    try:
        paths = parquet.find_shards(root, below=True)
    except ValueError as error:
        raise ValueError(
            f"--pickapic={folder} has no .parquet files; it must be a copy of "
            "Pick-a-Pic v1 (yuvalkirstain/pickapic_v1 on Hugging Face, 190 GB), or "
            "the part of it that has your images"
        ) from error
    if paths == [root]:
        raise ValueError(f"--pickapic={folder} must be a folder of .parquet files")
    for path in paths:
        if path.stat().st_size < SMALLEST:
            refuse_pointer(str(path))
    return [
        Shard(path.relative_to(root).as_posix(), str(path), path.stat().st_size)
        for path in paths
    ]


class ShardReader:
    """Finds pictures in one shard.

    Memory: the uids of a row group, `BATCH_ROWS` images, and twice the page of the
    image column that Arrow is decoding; a page is at most the column in one row group.
    """

    def __init__(self, shard: Shard):
        """Opens the file and reads its footer.

        Raises:
          ShardError: the file is damaged, or its columns are not the expected ones.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._shard = shard
        self._errors = (pa.ArrowException, OSError, UnicodeDecodeError)
        try:
            self._file = pq.ParquetFile(
                shard.path, pre_buffer=False, buffer_size=_BUFFER_BYTES
            )
            schema = self._file.schema_arrow
        except self._errors as error:
            raise self._error(error) from error
        wrong = [name for name in COLUMNS if not _has_column(schema, name)]
        if wrong:
            self._file.close()
            raise ShardError(
                f"{shard.path} lacks {', '.join(wrong)}; expected {_EXPECTED}, got "
                + ", ".join(f"{field.name}: {field.type}" for field in schema)
            )
        # Hugging Face nests image bytes: {bytes, path}.
        self._leaves = {
            name: f"{name}.bytes"
            if pa.types.is_struct(schema.field(name).type)
            else name
            for name in SIDES.values()
        }
        self.row_groups = self._file.num_row_groups

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def read(
        self, row_group: int, wanted: Collection[str]
    ) -> Iterator[tuple[str, Picture]]:
        """Yields the pictures of a row group whose uid is wanted.

        Raises:
          ShardError: the row group is damaged.
        """
        try:
            uids = self._file.read_row_group(row_group, columns=list(SIDES))
            for side, image in SIDES.items():
                cells = uids.column(side).to_pylist()
                rows = {row: uid for row, uid in enumerate(cells) if uid in wanted}
                if rows:  # otherwise no image of this column is read
                    yield from self._pictures(row_group, image, rows)
        except self._errors as error:
            raise self._error(error) from error

    def _pictures(
        self, row_group: int, image: str, rows: Mapping[int, str]
    ) -> Iterator[tuple[str, Picture]]:
        """Yields the pictures of one column in `rows`: row in the row group -> uid.

        Columns are read one at a time because a page may hold all images of a row
        group, and Arrow holds it twice, compressed and decompressed.
        """
        batches = self._file.iter_batches(
            BATCH_ROWS, row_groups=[row_group], columns=[self._leaves[image], PROMPT]
        )
        start = 0
        for batch in batches:
            for row in range(batch.num_rows):
                if uid := rows.get(start + row):
                    cells = (
                        batch.column(name)[row].as_py() for name in (image, PROMPT)
                    )
                    yield uid, make_picture(*cells)
            start += batch.num_rows

    def _error(self, error: Exception) -> ShardError:
        return ShardError(
            f"{self._shard.path} cannot be read as Parquet ({error}); download it again"
        )


def make_picture(image: Any, prompt: Any) -> Picture:
    """Makes a picture from the cells of a row."""
    return Picture(image_bytes(image), prompt)


def image_bytes(cell: Any) -> bytes | None:
    """Returns the encoded image of a cell: bytes, or Hugging Face's {bytes, path}."""
    if isinstance(cell, dict):
        cell = cell.get("bytes")
    return cell if isinstance(cell, bytes) else None


def _has_column(schema: Any, name: str) -> bool:
    """Whether a column exists and has a suitable type."""
    from pyarrow import types

    if name not in schema.names:
        return False
    kind = schema.field(name).type
    if name not in SIDES.values():
        return types.is_string(kind) or types.is_large_string(kind)
    if types.is_struct(kind):
        index = kind.get_field_index("bytes")
        return index >= 0 and _is_binary(kind.field(index).type)
    return _is_binary(kind)


def _is_binary(kind: Any) -> bool:
    from pyarrow import types

    return types.is_binary(kind) or types.is_large_binary(kind)
