"""Checksums of a checkpoint's files: written with it, verified when it is read.

Neither Orbax nor the array format notices a flipped bit in an array's data, which
restores as a different number.
"""

import concurrent.futures
import json
import pathlib
import zlib

from rahf import storage

CHECKSUMS_FILE = "checksums.json"
_CHUNK = 1 << 22


class DamagedError(ValueError):
    """A file of a checkpoint is missing or has changed since it was written."""


def write_checksums(folder: pathlib.Path) -> None:
    """Writes the size and CRC-32 of every file in the subfolders of a step.

    CRC-32 detects every change of a few bits and misses one in four billion others; it
    runs at over 1 GB/s, three times as fast as SHA-256 without hardware support. Files
    directly in the step's folder are left out, as Orbax still writes to these. In a
    bucket the files are read back, so that what is there is what is measured.

    Args:
      folder: the step's folder, from `rahf.storage.place`.
    """
    names = [name for name in storage.list_files(folder) if "/" in name]
    with concurrent.futures.ThreadPoolExecutor() as threads:
        found = threads.map(lambda name: _measure(folder / name), names)
        files = dict(zip(names, found, strict=True))
    storage.write_text(folder / CHECKSUMS_FILE, json.dumps({"files": files}, indent=1))


def check_checksums(folder: pathlib.Path) -> None:
    """Verifies the files of a step against its checksums.

    Steps from before there were checksums, which have no `input_state` either, pass.

    Raises:
      DamagedError: a file is missing or has changed.
    """
    path = folder / CHECKSUMS_FILE
    if not path.exists():
        if (folder / "input_state").exists():
            raise DamagedError(f"{path} is missing")
        return
    try:
        files = json.loads(path.read_bytes())["files"]
        wanted = {str(name): (int(n), str(crc)) for name, (n, crc) in files.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedError(f"{path} is damaged: it lists no checksums") from error

    def check(name: str) -> None:
        size, crc = wanted[name]
        file = folder / name
        try:
            found = _measure(file)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise DamagedError(f"{file} is missing") from error
        if found[0] != size:
            raise DamagedError(f"{file} has {found[0]} bytes, expected {size}")
        if found[1] != crc:
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
