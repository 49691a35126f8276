"""The Parquet files of rahf.bin.score, read as lines of rahf.bin.predict.

A file's rows are read a group at a time, and heatmaps are left in it: a row names the
place of its heatmaps, which `read_heatmap` reads.
"""

import functools
import glob
import hashlib
import json
import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rahf import images
from rahf.inference import image_places
from rahf.inference.scoring import IDENTITY, MADE_BY

_OTHERS = frozenset(
    {
        *(*IDENTITY, "intervals", "distance", "words", "prompt_truncated"),
        *("heatmap_side", "error"),
    }
)
# Row groups that are kept without their heatmaps, about 100 kB each, for rows that are
# read in the order of a score.
_KEPT_GROUPS = 256


def is_scored(path: pathlib.Path) -> bool:
    """Whether a file's name is that of an output of rahf.bin.score."""
    return path.suffix == ".parquet"


def list_files(folder: pathlib.Path) -> list[pathlib.Path]:
    """Returns the outputs in a folder, in order; not those that are being written."""
    return sorted(
        path for path in folder.glob("*.parquet") if not path.name.startswith(".")
    )


class ScoredShard:
    """One output of rahf.bin.score.

    Attributes:
      path: the file.
      made_by: the fields `checkpoint` and `checkpoint_digest` of each line.
      scores, heatmaps: the names of its columns.

    Raises:
      ValueError: the file cannot be read, or was not written by rahf.bin.score.
    """

    def __init__(self, path: pathlib.Path):
        self.path = path
        try:
            self._file = pq.ParquetFile(path)
            made_by = json.loads((self._file.schema_arrow.metadata or {})[MADE_BY])
        except (pa.ArrowException, OSError, KeyError, ValueError) as error:
            raise ValueError(
                f"{path}: not written by rahf.bin.score ({error!r})"
            ) from error
        schema = self._file.schema_arrow
        if "image" not in schema.names:
            raise ValueError(
                f"{path}: does not name its images, as outputs of an earlier version; "
                "score them again, to another folder"
            )
        keys = ("checkpoint", "checkpoint_digest")
        self.made_by = {name: made_by.get(name) for name in keys}
        self._level = float(made_by.get("intervals") or 0)
        own = [name for name in schema.names if name not in _OTHERS]
        self.heatmaps = [n for n in own if schema.field(n).type == pa.binary()]
        self.scores = [n for n in own if n not in self.heatmaps]
        sizes = [
            self._file.metadata.row_group(number).num_rows
            for number in range(self._file.num_row_groups)
        ]
        self._starts = np.cumsum([0, *sizes])
        self._columns = [n for n in schema.names if n not in self.heatmaps]
        self._group = functools.lru_cache(_KEPT_GROUPS)(self._read_group)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception) -> None:
        self._file.close()

    def lines(self) -> Iterator[dict[str, Any]]:
        """Yields all rows as lines, in bounded memory."""
        for group in range(self._file.num_row_groups):
            start = int(self._starts[group])
            for number, row in enumerate(self._read_group(group).to_pylist(), start):
                yield self._line(number, row)

    def line(self, number: int) -> dict[str, Any]:
        """Returns one row as a line."""
        group = int(np.searchsorted(self._starts, number, side="right")) - 1
        if not 0 <= number < len(self):
            raise ValueError(f"{self.path}: no row {number}")
        table = self._group(group).slice(number - int(self._starts[group]), 1)
        return self._line(number, table.to_pylist()[0])

    def digest(self) -> bytes:
        """Returns a SHA-256 of the stored rows, apart from the heatmaps.

        Those follow from the checkpoint, the image and the prompt, which are in it.
        """
        digest = hashlib.sha256(json.dumps(self.made_by, sort_keys=True).encode())
        about = self._file.metadata
        with self.path.open("rb") as file:
            for group in range(about.num_row_groups):
                for number in range(about.num_columns):
                    column = about.row_group(group).column(number)
                    if column.path_in_schema in self.heatmaps:
                        continue
                    first = column.dictionary_page_offset or column.data_page_offset
                    file.seek(min(first, column.data_page_offset))
                    digest.update(file.read(column.total_compressed_size))
        return digest.digest()

    def _read_group(self, group: int) -> pa.Table:
        try:
            return self._file.read_row_group(group, columns=self._columns)
        except (pa.ArrowException, OSError) as error:
            raise ValueError(
                f"{self.path}: row group {group} cannot be read ({error})"
            ) from error

    def _intervals(self, row: Mapping[str, Any]) -> dict[str, Any]:
        found = row.get("intervals") or {}
        ends = {name: _rounded(each) for name, each in found.items() if each}
        level = self._level
        return {"intervals": ends, "interval_level": level} if ends else {}

    def _distance(self, row: Mapping[str, Any]) -> dict[str, float]:
        found = row.get("distance")
        return {} if found is None else {"distance": round(found, 1)}

    def _line(self, number: int, row: Mapping[str, Any]) -> dict[str, Any]:
        line = {"id": row["id"], "image": row["image"] or "", "prompt": row["prompt"]}
        if row["error"] is not None:
            return {**line, "error": row["error"], **self.made_by}
        return {
            **line,
            "image_sha256": row["image_sha256"],
            "image_size": [row["image_height"], row["image_width"]],
            "prompt_truncated": row["prompt_truncated"],
            # As in predictions.jsonl; float32's own digits would go on.
            "scores": {
                name: round(row[name], 6)
                for name in self.scores
                if row[name] is not None
            },
            **self._intervals(row),
            **self._distance(row),
            "words": [
                {**word, "probability": round(word["probability"], 6)}
                for word in row["words"] or ()
            ],
            "heatmaps": {
                name: image_places.in_table(os.fspath(self.path), number, name)
                for name in self.heatmaps
            },
            "overlays": {},
            **self.made_by,
        }


def _rounded(ends: Mapping[str, float]) -> list[float]:
    return [round(ends["low"], 6), round(ends["high"], 6)]


def read_lines(
    paths: Iterable[str | os.PathLike],
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields (file and row, line) of several outputs."""
    for path in map(pathlib.Path, paths):
        with ScoredShard(path) as shard:
            for number, line in enumerate(shard.lines()):
                yield f"{path}, row {number}", line


def has_heatmap(place: str) -> bool:
    """Whether a heatmap can be read: a file, or a row of an output that is there."""
    return os.path.isfile(place if image_places.is_file(place) else _shard_of(place))


def read_heatmap(place: str) -> np.ndarray:
    """Returns float32[H, W] in [0, 1] of a PNG or of a row.

    Raises:
      ValueError: it cannot be read, or is not square.
    """
    if image_places.is_file(place):
        return images.read_heatmap(place)
    data = np.frombuffer(image_places.read(place), np.uint8)
    side = int(np.sqrt(len(data)))
    if side * side != len(data):
        raise ValueError(f"{place}: expected a square heatmap, got {len(data)} bytes")
    return data.reshape(side, side).astype(np.float32) / 255


def _shard_of(place: str) -> str:
    return place.rpartition("#")[0]


def find_files(source: str | os.PathLike, usual: str) -> list[pathlib.Path]:
    """Returns the files of predictions that a path, folder or glob names.

    Args:
      source: a file; a folder with `usual` or with outputs of rahf.bin.score; or a
        glob.
      usual: the file that rahf.bin.predict writes into its folder.

    Raises:
      ValueError: there are none, or a folder has both kinds.
    """
    expected = (
        f"expected the {usual} of rahf.bin.predict, Parquet files of rahf.bin.score, "
        "or their folder"
    )
    if not os.fspath(source):
        raise ValueError(f"got '' as predictions; {expected}")
    path = pathlib.Path(source)
    if path.is_dir():
        scored = list_files(path)
        if not (path / usual).is_file():
            if not scored:
                raise ValueError(f"{path / usual}: no such file; {expected}")
            return scored
        if scored:
            raise ValueError(f"{path} has both {usual} and {scored[0].name}; name one")
        return [path / usual]
    if path.is_file():
        return [path]
    named = map(pathlib.Path, glob.glob(os.fspath(source)))
    found = sorted(each for each in named if each.is_file())
    if not found:
        raise ValueError(f"{path}: no such file; {expected}")
    return found
