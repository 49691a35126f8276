"""Checksums of a checkpoint's files: written before it counts, compared on reading.

Neither Orbax nor the array format notices a changed bit in the data of an array; it
restores as another number.
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
    """A file of a checkpoint is not as it was written."""


def write_checksums(folder: str | os.PathLike) -> None:
    """Writes the size and CRC-32 of every file in the subfolders of a step.

    CRC-32 finds every change of a few bits and misses one in four billion others; it
    runs at over 1 GB/s, three times as fast as SHA-256 without hardware support.
    Files of the step's own folder are left out: Orbax goes on to write these.
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
    """Compares the files of a step with their checksums, where it has any.

    Raises:
      DamagedError: a file is missing, or is not as it was written.
    """
    folder = pathlib.Path(folder)
    path = folder / CHECKSUMS_FILE
    if not path.exists():
        return
    try:
        files = json.loads(path.read_bytes())["files"]
        wanted = {str(name): (int(n), str(crc)) for name, (n, crc) in files.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedError(f"{path} is not as it was written") from error

    def check(name: str) -> None:
        size, crc = wanted[name]
        file = folder / name
        if not file.is_file():
            raise DamagedError(f"{file} is missing")
        there = file.stat().st_size
        if there != size:
            raise DamagedError(f"{file} has {there} bytes of {size}")
        if _measure(file)[1] != crc:
            raise DamagedError(f"{file} is damaged: its checksum differs")

    with concurrent.futures.ThreadPoolExecutor() as threads:
        list(threads.map(check, wanted))


def _measure(path: pathlib.Path) -> tuple[int, str]:
    """(bytes, CRC-32 in hexadecimal) of a file."""
    size = crc = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            size += len(chunk)
            crc = zlib.crc32(chunk, crc)
    return size, f"{crc:08x}"
