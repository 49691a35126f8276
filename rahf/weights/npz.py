"""Reads `.npz` files of arrays, without unpickling anything."""

import contextlib
import dataclasses
import io
import math
import os
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Mapping

import numpy as np

from rahf.weights import files, values

Arrays = dict[str, np.ndarray]
Shapes = Mapping[str, tuple[int, ...]]


def read(path: str | os.PathLike, wanted: Shapes | None = None) -> Arrays:
    """Reads the arrays of a file by name.

    Args:
      path: local, gs:// or s3://.
      wanted: shapes of the model's parameters; a file that describes far larger arrays
        is refused before it is unpacked.

    Raises:
      ValueError: it is damaged, or holds anything but numbers.
    """
    where, data = os.fspath(path), files.read(path)
    with _report_damage(where, len(data)):
        archive = zipfile.ZipFile(io.BytesIO(data))
        headers = [_read_header(archive, member) for member in archive.infolist()]
    shapes: dict[str, tuple[int, ...]] = {}
    for header in headers:
        if header.name in shapes:
            raise ValueError(f"{where}: {header.name} appears twice")
        if header.dtype.hasobject:
            raise ValueError(
                f"{where}: {header.name} holds pickled objects, which are not read"
            )
        if header.dtype.itemsize > 16:  # strings or records, of any length
            raise ValueError(
                f"{where}: {header.name} has dtype {header.dtype}, expected numbers"
            )
        shapes[header.name] = header.shape
    values.check_count(where, shapes, wanted)
    arrays = {}
    with _report_damage(where, len(data)), archive:
        for header in headers:
            with archive.open(header.member) as file:
                array = np.lib.format.read_array(file, allow_pickle=False)
            arrays[header.name] = array
    return arrays


@dataclasses.dataclass(frozen=True)
class _Header:
    """How an archive describes an array."""

    member: zipfile.ZipInfo
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype


def _read_header(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> _Header:
    """Reads an array's header, and checks that its size agrees with its shape."""
    name = member.filename
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{name} is compressed in a way that numpy does not use")
    with archive.open(member) as file:
        if file.read(6) != b"\x93NUMPY":
            raise ValueError(f"{name} is not an array")
        file.seek(0)
        version = np.lib.format.read_magic(file)
        old = np.lib.format.read_array_header_1_0
        read = old if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
        size = member.file_size - file.tell()
    if not dtype.hasobject and size != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{name} has {size} bytes for {list(shape)} of {dtype}")
    return _Header(member, name.removesuffix(".npy"), shape, dtype)


@contextlib.contextmanager
def _report_damage(where: str, size: int) -> Iterator[None]:
    """Turns errors of zipfile, zlib and numpy into one that names the file."""
    try:
        yield
    except (
        *(zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError),
        *(ValueError, TypeError, RuntimeError, SyntaxError, tokenize.TokenError),
        MemoryError,
    ) as error:
        raise ValueError(
            f"{where} ({size} bytes) is not a complete .npz file of arrays ({error}); "
            "is it a git-lfs pointer, or was a download interrupted?"
        ) from error
