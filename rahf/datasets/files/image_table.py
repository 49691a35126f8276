"""Reads tables of rated images: CSV, TSV or Parquet.

Columns are returned as lists of cells; images are read on demand.
"""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

from rahf.datasets.files import parquet
from rahf.datasets.files.csv_table import SEPARATORS, StrictReader

#: Stands for a column of splits: each file's name up to the first "-", as in
#: train-00000-of-00004.parquet.
FILE_SPLIT = "<file>"


@dataclasses.dataclass(frozen=True)
class Table:
    """Some columns of a table.

    Attributes:
      path: the file or folder.
      locations: the file and line (CSV) or row number (Parquet) of each row.
      columns: name -> one cell per row: text, a number or None.
      images: one per row: a path, encoded bytes, or None. Parquet cells are read on
        demand.
    """

    path: pathlib.Path
    locations: Sequence[tuple[str, int]]
    columns: dict[str, list[Any]]
    images: Sequence[Any]

    def __len__(self) -> int:
        return len(self.locations)

    def where(self, row: int, column: str) -> str:
        """Names a cell, for error messages."""
        file, number = self.locations[row]
        unit = "row" if file.endswith(".parquet") else "line"
        return f"{file}, {unit} {number}, column {column!r}"

    @property
    def paths(self) -> Sequence[str | None]:
        """The path of each row's image; None if the cell holds bytes or is empty."""
        return self.images.paths if isinstance(self.images, _Images) else self.images

    @property
    def empty(self) -> Sequence[int]:
        """The rows that have neither a path nor bytes."""
        if isinstance(self.images, _Images):
            return self.images.empty
        return [row for row, cell in enumerate(self.images) if not cell]

    def image_names(self) -> list[str]:
        """Returns the images' names: paths in CSV, file and row in Parquet."""
        paths = self.paths
        if isinstance(self.images, _Images):  # paths in Parquet need not be unique
            paths = [None] * len(self)
        return [
            path or f"{pathlib.Path(file).name}:{number}"
            for path, (file, number) in zip(paths, self.locations, strict=True)
        ]


def read_table(path: str | pathlib.Path, image: str, columns: Sequence[str]) -> Table:
    """Reads a table of rated images.

    Args:
      path: a `.csv` (separated by commas), `.tsv` (by tabs) or `.parquet` file, or
        a folder of Parquet files.
      image: the column of images: paths, or in Parquet also encoded bytes or the
        struct of both that the `datasets` library writes.
      columns: the other columns to read; may include `FILE_SPLIT`.

    Returns:
      The table, in the order of the file.

    Raises:
      ValueError: the table cannot be read or lacks a column, or a row has too many or
        too few cells; names file and line.
    """
    path = pathlib.Path(path)
    suffix = path.suffix.lower()
    if path.is_dir() or suffix == ".parquet":
        table = _read_parquet(path, image, columns)
    elif suffix in SEPARATORS:
        table = _read_text(path, image, columns)
    else:
        raise ValueError(
            f"{path}: expected a .csv, .tsv or .parquet file, or a folder of .parquet "
            "files"
        )
    if not len(table):
        raise ValueError(f"{path} has no rows")
    return table


def _read_text(path: pathlib.Path, image: str, columns: Sequence[str]) -> Table:
    wanted = [name for name in columns if name != FILE_SPLIT]
    cells: dict[str, list[Any]] = {name: [] for name in (*wanted, image)}
    locations: list[tuple[str, int]] = []
    try:
        reader = StrictReader(path)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from error
    _check_header(path, reader.columns, [*wanted, image])
    for row in reader:
        locations.append((str(path), reader.line))
        for name, column in cells.items():
            column.append(row[name])
    found = {name: cells[name] for name in wanted}
    if FILE_SPLIT in columns:
        found[FILE_SPLIT] = [_file_split(path)] * len(locations)
    return Table(path, locations, found, [cell or None for cell in cells[image]])


def _check_header(path: pathlib.Path, header: list[str], wanted: list[str]) -> None:
    missing = [name for name in wanted if name not in header]
    if missing:
        raise ValueError(
            f"{path}, line 1: no column {', '.join(map(repr, missing))}; it has "
            f"{', '.join(map(repr, header)) or 'none'} (config.input.rated_images "
            "names the columns)"
        )


def _read_parquet(path: pathlib.Path, image: str, columns: Sequence[str]) -> Table:
    shards = parquet.find_shards(path)
    wanted = list(dict.fromkeys(name for name in columns if name != FILE_SPLIT))
    found: dict[str, list[Any]] = {name: [] for name in columns}
    locations: list[tuple[str, int]] = []
    images = _Images(parquet.Cells(shards, image))
    for shard in shards:
        file = parquet.open_shard(shard, [*wanted, image])
        names = file.schema_arrow.names
        if twice := [name for name in (*wanted, image) if names.count(name) > 1]:
            raise ValueError(f"{shard}: column {twice[0]!r} appears twice")
        row = 0
        for group in range(file.metadata.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            if wanted:
                read = parquet.read_column(shard, file, group, wanted)
                for name in wanted:
                    found[name].extend(read.column(name).to_pylist())
            locations.extend((str(shard), row + i) for i in range(rows))
            images.note(shard, file, group, image)
            row += rows
        if FILE_SPLIT in found:
            found[FILE_SPLIT].extend([_file_split(shard)] * row)
    return Table(path, locations, found, images)


def _file_split(path: pathlib.Path) -> str:
    return path.stem.split("-")[0]


class _Images(Sequence[Any]):
    """Cells of images, unpacked where they are structs of bytes and path.

    Attributes:
      paths: see `Table`; None if the struct also has bytes.
      empty: see `Table`.
    """

    def __init__(self, cells: parquet.Cells):
        self._cells = cells
        self.paths: list[str | None] = []
        self.empty: list[int] = []

    def __len__(self) -> int:
        return len(self._cells)

    def __getitem__(self, index: int) -> Any:
        return _unpack(self._cells[index])

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"paths": [], "empty": []}  # workers need cells only

    def note(self, shard: pathlib.Path, file: Any, group: int, column: str) -> None:
        """Adds the next row group's paths and empty rows."""
        rows = file.metadata.row_group(group).num_rows
        if _all_encoded(file.metadata.row_group(group), column):
            self.paths += [None] * rows  # without reading any picture
            return
        for cell in parquet.read_column(shard, file, group, [column]).column(0):
            value = _unpack(cell.as_py())
            if not value:
                self.empty.append(len(self.paths))
            self.paths.append(value if isinstance(value, str) and value else None)


def _unpack(cell: Any) -> Any:
    if isinstance(cell, dict):
        cell = cell.get("bytes") or cell.get("path")
    return cell


def _all_encoded(group: Any, column: str) -> bool:
    """Whether every cell of a row group has bytes, according to the footer."""
    for index in range(group.num_columns):
        leaf, statistics = group.column(index), group.column(index).statistics
        if leaf.path_in_schema in (column, f"{column}.bytes"):
            return (
                leaf.physical_type == "BYTE_ARRAY"
                and statistics is not None
                and statistics.logical_type.type != "STRING"
                and statistics.has_null_count
                and not statistics.null_count
            )
    return False
