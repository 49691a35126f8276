"""Finds Parquet files, reads single cells of them, and explains damaged ones.

pyarrow is imported when a file is opened: everything else works without it.
"""

import bisect
import collections
import pathlib
import threading
from collections.abc import Sequence
from typing import Any

#: Bytes of row groups that one process caches, besides the one it reads.
CACHE_BYTES = 256_000_000
#: The largest column of a row group that is read at once.
MAX_GROUP_BYTES = 2**30
_POINTER = b"version https://git-lfs"


def find_shards(
    path: str | pathlib.Path, split: str = "", *, below: bool = False
) -> list[pathlib.Path]:
    """Returns the Parquet files at a path, sorted by name.

    Files and folders whose names begin with a dot are skipped.

    Args:
      path: a file, or a folder of `*.parquet` files.
      split: selects a folder's files that begin with this name and a dash
        ("train-00000-of-00004.parquet") or are in a folder of this name. "" = all.
      below: whether to search subfolders too.

    Raises:
      ValueError: no file is found.
    """
    path = pathlib.Path(path)
    if not path.is_dir():
        if not path.is_file():
            raise ValueError(f"{path}: no such file or folder")
        if split:
            raise ValueError(
                f"{path}: expected a folder of files {split}-*.parquet, got a file; "
                "name the folder, or leave out the split"
            )
        return [path]
    candidates = path.rglob("*.parquet") if below else path.glob("*.parquet")
    inside = {shard: shard.relative_to(path).parts for shard in sorted(candidates)}
    found = [
        shard
        for shard, parts in inside.items()
        if shard.is_file() and not any(part.startswith(".") for part in parts)
    ]
    chosen = [
        shard
        for shard in found
        if not split
        or shard.name.startswith(f"{split}-")
        or split in inside[shard][:-1]
    ]
    if not chosen:
        names = [str(entry.relative_to(path)) for entry in found or path.iterdir()]
        raise ValueError(
            f"{path}: expected files {split and f'{split}-'}*.parquet, found "
            f"{', '.join(sorted(names)[:8]) or 'nothing'}"
        )
    return chosen


def open_shard(path: pathlib.Path, columns: Sequence[str] = ()) -> Any:
    """Opens a Parquet file.

    Args:
      path: the file.
      columns: the columns that it must have.

    Returns:
      A `pyarrow.parquet.ParquetFile`, memory mapped.

    Raises:
      ValueError: the file is not Parquet, or lacks a column.
    """
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path, memory_map=True)
    except (pyarrow.ArrowException, OSError) as error:
        with path.open("rb") as raw:
            pointer = raw.read(len(_POINTER)) == _POINTER
        remedy = (
            "this is a git-lfs pointer: run `git lfs pull` in its folder"
            if pointer
            else "download it again"
        )
        raise ValueError(f"{path}: not a Parquet file ({error}); {remedy}") from error
    missing = [name for name in columns if name not in file.schema_arrow.names]
    if missing:
        raise ValueError(
            f"{path}: no column {', '.join(map(repr, missing))}; "
            f"it has {', '.join(file.schema_arrow.names)}"
        )
    return file


def read_column(path: pathlib.Path, file: Any, group: int, columns: list[str]) -> Any:
    """Returns columns of one row group as a `pyarrow.Table`.

    Raises:
      ValueError: the row group is damaged.
    """
    import pyarrow

    try:
        table = file.read_row_group(group, columns=columns, use_threads=False)
        table.validate(full=True)
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(
            f"{path}: row group {group} is damaged ({error}); download it again"
        ) from error
    return table


def _check_group(path: pathlib.Path, metadata: Any, group: int, column: str) -> None:
    leaves = [metadata.column(i) for i in range(metadata.num_columns)]
    size = sum(
        leaf.total_uncompressed_size
        for leaf in leaves
        if leaf.path_in_schema.split(".")[0] == column
    )
    if size > MAX_GROUP_BYTES:
        raise ValueError(
            f"{path}: column {column!r} takes {size / 2**30:.1f} GiB in row group "
            f"{group}, over the limit of {MAX_GROUP_BYTES / 2**30:g}; write the file "
            "again with smaller row groups (row_group_size=100)"
        )


class Cells(Sequence[Any]):
    """One column of several files, with random access to its cells.

    A cell is read with its whole row group, and row groups are cached up to
    `CACHE_BYTES`: in shuffled order over more than that, each cell costs reading a row
    group. Files of many images need small row groups, or paths instead; a column of
    more than `MAX_GROUP_BYTES` in one row group is refused.
    """

    def __init__(self, shards: Sequence[pathlib.Path], column: str):
        """Reads the files' footers.

        Raises:
          ValueError: a file is not Parquet, lacks the column, or has a row group that
            is too large.
        """
        self._shards, self._column = list(shards), column
        self._starts: list[tuple[int, int, int]] = []  # first row, shard, row group
        self._length = 0
        for index, shard in enumerate(self._shards):
            metadata = open_shard(shard, [column]).metadata
            for group in range(metadata.num_row_groups):
                _check_group(shard, metadata.row_group(group), group, column)
                if rows := metadata.row_group(group).num_rows:
                    self._starts.append((self._length, index, group))
                    self._length += rows
        self._reset()

    def _reset(self) -> None:
        self._files: dict[int, Any] = {}
        self._groups: collections.OrderedDict[int, Any] = collections.OrderedDict()
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        own = ("_files", "_groups", "_lock")
        return {name: v for name, v in self.__dict__.items() if name not in own}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset()

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Any:
        if not 0 <= index < self._length:
            raise IndexError(f"row {index} of {self._length}")
        at = bisect.bisect(self._starts, index, key=lambda start: start[0]) - 1
        with self._lock:
            return self._group(at)[index - self._starts[at][0]].as_py()

    def _group(self, at: int) -> Any:
        if at in self._groups:
            self._groups.move_to_end(at)
            return self._groups[at]
        _, shard, group = self._starts[at]
        path = self._shards[shard]
        if shard not in self._files:
            self._files = {shard: open_shard(path)}  # one open file at a time
        table = read_column(path, self._files[shard], group, [self._column])
        while self._groups and self._held() + table.nbytes > CACHE_BYTES:
            self._groups.popitem(last=False)
        self._groups[at] = table.column(0)
        return self._groups[at]

    def _held(self) -> int:
        return sum(column.nbytes for column in self._groups.values())
