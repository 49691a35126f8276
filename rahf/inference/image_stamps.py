"""By what an image file is known again: its digest, its size and its time of change."""

import hashlib
import os
from collections.abc import Mapping
from typing import Any

_STAT = ("image_bytes", "image_mtime_ns")


def stamp(path: str) -> dict[str, Any]:
    """Returns the fields of a line that tell an image file from a later one.

    `image_sha256` in hexadecimal, None where the file cannot be read; `image_bytes` and
    `image_mtime_ns`, missing there.
    """
    return {"image_sha256": sha256(path), **_stat(path)}


def has_changed(path: str, line: Mapping[str, Any]) -> bool:
    """Whether a file has other content than when `stamp` was written into a line.

    It is read only where its size or time differ. A file that is gone has not changed,
    nor one whose line was written before lines had stamps.
    """
    now = _stat(path)
    then = {name: line.get(name) for name in ("image_sha256", *_STAT)}
    if not now or None in then.values() or now.items() <= then.items():
        return False
    return sha256(path) not in (None, then["image_sha256"])


def sha256(path: str) -> str | None:
    """Returns the digest of a file, None where it cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError):
        return None


def _stat(path: str) -> dict[str, int]:
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return {}
    return dict(zip(_STAT, (found.st_size, found.st_mtime_ns), strict=True))
