"""Where an image is, in one line of text: a file, a URL, or a place in a shard.

/data/cat.png                          a file
gs://bucket/cat.png                    what fsspec reads
/data/00000.tar#bytes=1024+48213       a member of a tar: its offset and its length
/data/00000.parquet#row=17             the encoded image of a row, counted from 0
/out/00000-3f.parquet#row=17:alignment one column of a row

So a line of JSON names any image, and reading one does not read its shard.
"""

import functools
import hashlib
import os
import re
from collections.abc import Sequence
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from rahf import images
from rahf.inference import image_stamps

#: The columns in which Parquet and JSONL shards have the encoded image or its path; the
#: first present counts.
IMAGE_COLUMNS = ("image", "file_name", "jpg")

_INSIDE = re.compile(r"#(?:bytes=(\d+)\+(\d+)|row=(\d+)(?::(.+))?)$", re.DOTALL)


def is_file(place: str) -> bool:
    """Whether a place is a path, of a file that may exist or not."""
    return "://" not in place and not _INSIDE.search(place)


def in_tar(shard: str, offset: int, size: int) -> str:
    """Returns the place of these bytes of a shard."""
    return f"{absolute(shard)}#bytes={offset}+{size}"


def in_table(shard: str, row: int, column: str = "") -> str:
    """Returns the place of a row's image, or of another column of the row."""
    return f"{absolute(shard)}#row={row}" + (f":{column}" if column else "")


def absolute(place: str, folder: str | os.PathLike = "") -> str:
    """Returns a place whose path does not depend on the current folder."""
    return place if "://" in place else os.path.abspath(os.path.join(folder, place))


def read(place: str) -> bytes:
    """Returns the encoded image.

    Raises:
      ImageError: a file cannot be read, or has more than `images.MAX_BYTES`.
      ValueError: a shard or URL cannot be read, or has no such image.
    """
    if is_file(place):
        return images.read_encoded(place)
    found = _INSIDE.search(place)
    shard = place[: found.start()] if found else place
    try:
        if found and found[3] is not None:
            columns = (found[4],) if found[4] else IMAGE_COLUMNS
            data = _cell(shard, int(found[3]), columns)
        else:
            with fsspec.open(shard, "rb") as file:
                size = images.MAX_BYTES + 1
                if found:
                    file.seek(int(found[1]))  # pyright: ignore
                    size = int(found[2])
                data = file.read(size)  # pyright: ignore
    except (OSError, ImportError, IndexError, pa.ArrowException) as error:
        raise ValueError(f"{place}: cannot be read ({error})") from error
    if found and found[2] is not None and len(data) < int(found[2]):
        raise ValueError(f"{place}: the shard is cut, or another one than was scored")
    if len(data) > images.MAX_BYTES:
        raise ValueError(f"{place}: more than {images.MAX_BYTES} bytes")
    return data


def size(place: str) -> int:
    """Returns the bytes of the encoded image; see `read`."""
    found = _INSIDE.search(place)
    if found and found[2] is not None:
        return int(found[2])
    return os.path.getsize(place) if is_file(place) else len(read(place))


def why_unusable(place: str, line: dict[str, Any]) -> str:
    """Returns why an image is not the one predicted in this line; "" if it is."""
    if is_file(place):
        if not os.path.isfile(place):
            return "no such file"
        if image_stamps.has_changed(place, line):
            return "the file has changed since it was predicted"
        if line.get("image_bytes") is not None:
            return ""  # by size and time, without reading it
    try:
        found = hashlib.sha256(read(place)).hexdigest()
    except ValueError as error:
        return str(error).removeprefix(f"{place}: ")
    known = line.get("image_sha256")
    same = known is None or found == known
    return "" if same else "the image has changed since it was predicted"


def _cell(shard: str, row: int, columns: Sequence[str]) -> bytes:
    found, groups, start = _opened(shard), 0, 0
    while start + (size := found.metadata.row_group(groups).num_rows) <= row:
        groups, start = groups + 1, start + size
    names = [name for name in columns if name in found.schema_arrow.names]
    table = _group(shard, groups, tuple(names))
    for value in table.slice(row - start, 1).to_pylist()[0].values():
        value = value.get("bytes") if isinstance(value, dict) else value
        if isinstance(value, bytes):
            return value
    raise ValueError(f"{shard}: row {row} has no bytes in {', '.join(columns)}")


@functools.lru_cache(maxsize=4)
def _opened(shard: str) -> pq.ParquetFile:
    if "://" not in shard:
        return pq.ParquetFile(shard)
    store, path = fsspec.url_to_fs(shard)
    return pq.ParquetFile(store.open(path, "rb"))


@functools.lru_cache(maxsize=2)  # two heatmaps of the same rows
def _group(shard: str, group: int, columns: tuple[str, ...]) -> pa.Table:
    return _opened(shard).read_row_group(group, columns=list(columns))
