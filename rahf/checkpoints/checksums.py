"""Checksums of a checkpoint's files: written with it, verified when it is read.

Neither Orbax nor the array format notices a flipped bit in an array's data, which
restores as a different number.
"""

import concurrent.futures
import json
import os
import pathlib
import zlib

from rahf import durable

CHECKSUMS_FILE = "checksums.json"
_CHUNK = 1 << 22


class DamagedError(ValueError):
    """A file of a checkpoint is missing or has changed since it was written."""


def write_checksums(folder: str | os.PathLike) -> None:
    """Writes the size and CRC-32 of every file in the subfolders of a step.

    CRC-32 detects every change of a few bits and misses one in four billion others; it
    runs at over 1 GB/s, three times as fast as SHA-256 without hardware support. Files
    directly in the step's folder are left out, as Orbax still writes to these.
    """
    folder = pathlib.Path(folder)
    names = sorted(
        path.relative_to(folder).as_posix()
        for path in folder.glob("*/**/*")
        if path.is_file()
    )
    with concurrent.futures.ThreadPoolExecutor() as threads:
        found = threads.map(lambda name: _measure(folder / name), names)
        files = dict(zip(names, found, strict=True))
    durable.write_text(folder / CHECKSUMS_FILE, json.dumps({"files": files}, indent=1))


def check_checksums(folder: str | os.PathLike) -> None:
    """Verifies the files of a step against its checksums, if it has any.

    Raises:
      DamagedError: a file is missing or has changed.
    """
    folder = pathlib.Path(folder)
    path = folder / CHECKSUMS_FILE
    if not path.exists():
        return
    try:
        files = json.loads(path.read_bytes())["files"]
        wanted = {str(name): (int(n), str(crc)) for name, (n, crc) in files.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedError(f"{path} is damaged: it lists no checksums") from error

    def check(name: str) -> None:
        size, crc = wanted[name]
        file = folder / name
        if not file.is_file():
            raise DamagedError(f"{file} is missing")
        found = file.stat().st_size
        if found != size:
            raise DamagedError(f"{file} has {found} bytes, expected {size}")
        if _measure(file)[1] != crc:
            raise DamagedError(f"{file} is damaged: its checksum differs")

    with concurrent.futures.ThreadPoolExecutor() as threads:
        list(threads.map(check, wanted))


def _measure(path: pathlib.Path) -> tuple[int, str]:
    """Returns the size of a file in bytes, and its CRC-32 in hexadecimal."""
    size = crc = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            size += len(chunk)
            crc = zlib.crc32(chunk, crc)
    return size, f"{crc:08x}"
