"""A folder of results that exists complete or not at all.

The files are made in `.NAME.partial` beside the folder, which is renamed when all are
there. What an interrupted command left is used by the same command and removed by any
other.
"""

import contextlib
import errno
import json
import os
import pathlib
import shutil
from collections.abc import Iterator, Mapping
from typing import Any

from rahf import durable

#: What was asked for; two equal ones have equal results.
REQUEST_FILE = "request.json"
_PLAN = "plan"
#: What the system says of a disk, a quota or a file system without room.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class NoRoomError(ValueError):
    """There is no room for the results; those that are complete are kept."""


@contextlib.contextmanager
def making(
    output: str | os.PathLike, request: Mapping[str, Any], plan: str = ""
) -> Iterator[pathlib.Path]:
    """Yields the folder to write into, which then becomes `output`.

    Files that are in it already are complete, if they are written as
    `rahf.durable.writing` does: they need not be made again. If the body raises, the
    folder is left for the next try.

    Args:
      output: the folder of the results; it must not exist, or be empty.
      request: what is asked for, as JSON can hold it: everything that the results
        depend on, apart from the images themselves.
      plan: a digest of what will be written, where the images decide that too: what
        an interrupted command left is used only if it had the same plan.

    Raises:
      ValueError: `output` exists, cannot be written to, or is being written by another
        process.
      NoRoomError: the disk fills while the body writes.
    """
    path = pathlib.Path(os.path.abspath(output))
    is_complete(output, request)  # refuses other results
    wanted = _as_json({**request, _PLAN: plan})
    partial = path.with_name(f".{path.name}.partial")
    durable.check_folder(path.parent)
    with durable.locked(partial, "writing results"):
        if _read(partial) == wanted:
            for left in partial.rglob(".*"):  # half a file, left by a killed process
                if left.name != durable.LOCK_FILE:
                    left.unlink()
        else:
            _clear(partial)
            durable.write_text(partial / REQUEST_FILE, json.dumps(wanted) + "\n")
        with _saying_what_is_kept(partial):
            yield partial
        os.rename(partial, path)
        durable.sync_folder(path.parent)
        (path / durable.LOCK_FILE).unlink(missing_ok=True)


@contextlib.contextmanager
def _saying_what_is_kept(partial: pathlib.Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise NoRoomError(
            f"{partial.parent}: {os.strerror(error.errno)}; what was complete is kept in "
            f"{partial.name}: make room, and the same command goes on"
        ) from error


def is_complete(output: str | os.PathLike, request: Mapping[str, Any]) -> bool:
    """Returns whether a folder holds the results of this request already.

    Raises:
      ValueError: it holds something else, or is no folder.
    """
    durable.check_local(output)
    path = pathlib.Path(os.path.abspath(output))
    if not os.path.lexists(path):
        return False
    if not path.is_dir():
        raise ValueError(f"--output={output} is a file; choose another folder")
    known = _read(path)
    if isinstance(known, dict) and _PLAN in known:
        del known[_PLAN]
        if known == _as_json(request):
            return True
    held = sorted(entry.name for entry in path.iterdir())
    if not held:
        return False
    what = "results of other predictions or flags"
    if REQUEST_FILE not in held:
        what = f"something else ({', '.join(held[:3])})"
    raise ValueError(
        f"--output={output} exists and holds {what}; remove it, or choose another folder"
    )


def _as_json(value: Any) -> Any:
    """Returns a value as it will be read again."""
    return json.loads(json.dumps(value))


def _read(folder: pathlib.Path) -> Any:
    try:
        return json.loads((folder / REQUEST_FILE).read_text("utf-8"))
    except (OSError, ValueError):
        return None


def _clear(folder: pathlib.Path) -> None:
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry.name != durable.LOCK_FILE:
            entry.unlink()
