"""Reads local and remote files; gs:// and s3:// through tensorstore."""

import os
from typing import Any

import tensorstore as ts


def kvstore(path: str | os.PathLike) -> Any:
    """Returns tensorstore's form of a folder or file: a spec, or the URL itself."""
    path = os.fspath(path)
    if "://" in path:
        return path.rstrip("/")
    return {"driver": "file", "path": os.path.abspath(path)}


def folder(path: str | os.PathLike) -> Any:
    """Returns the same for a folder of files, to which names can be appended."""
    store = kvstore(path)
    if isinstance(store, str):
        return store + "/"
    return store | {"path": store["path"].rstrip("/") + "/"}


def join(path: str | os.PathLike, name: str) -> str:
    return f"{os.fspath(path).rstrip('/')}/{name}"


def exists(path: str | os.PathLike) -> bool:
    """Returns whether a file, or a folder on a local disk, exists."""
    path = os.fspath(path)
    return os.path.exists(path) if "://" not in path else _read(path) is not None


def read(path: str | os.PathLike) -> bytes:
    """Reads a whole file.

    Raises:
      ValueError: it does not exist or cannot be read.
    """
    data = _read(path)
    if data is None:
        raise ValueError(f"{os.fspath(path)} does not exist")
    return data


def _read(path: str | os.PathLike) -> bytes | None:
    path = os.fspath(path)
    parent, _, name = (path if "://" in path else os.path.abspath(path)).rpartition("/")
    try:
        store = ts.KvStore.open(folder(parent or "/")).result()
        result = store.read(name.encode("utf-8")).result()
    except UnicodeError as error:
        raise ValueError(f"{path!r} cannot be read: its name is not UTF-8") from error
    except (ValueError, OSError, RuntimeError) as error:
        why = " ".join(str(error).split())
        raise ValueError(f"{path!r} cannot be read: {why}") from error
    return None if result.state == "missing" else result.value
