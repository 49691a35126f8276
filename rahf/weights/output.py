"""The output folder of an import or export, which is checked before the work."""

import contextlib
import os
import pathlib
import shutil
from collections.abc import Iterator

from rahf import durable

_SPARE = 16 << 20  # bytes, for everything besides the arrays


@contextlib.contextmanager
def claimed(folder: str | os.PathLike, purpose: str) -> Iterator[None]:
    """Locks an output folder for this process, and checks that it can be written to.

    A folder that did not exist before and is empty afterwards is removed.

    Args:
      folder: the folder; made if it does not exist.
      purpose: what this process does there, such as "an export".

    Raises:
      ValueError: it is "" or a URL, cannot be made or written to, or another process has
        locked it.
    """
    durable.check_local(folder)
    folder = pathlib.Path(folder)
    is_new = not folder.exists()
    with contextlib.ExitStack() as stack:
        if is_new:
            stack.callback(_remove_if_empty, folder)
        with failures_told(folder):
            stack.enter_context(durable.locked(folder, purpose))
        stack.callback((folder / durable.LOCK_FILE).unlink, missing_ok=True)
        yield


def _remove_if_empty(folder: pathlib.Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()


@contextlib.contextmanager
def failures_told(folder: str | os.PathLike) -> Iterator[None]:
    """Turns OSError into a one-line ValueError that names the output."""
    try:
        yield
    except OSError as error:
        why = error.strerror or " ".join(str(error).split())
        what = error.filename or os.fspath(folder)
        raise ValueError(
            f"--output={os.fspath(folder)} cannot be written: {why} ({what})"
        ) from error


def check_space(folder: str | os.PathLike, size: int) -> None:
    """Raises ValueError if a disk has no room for `size` bytes of arrays."""
    free = shutil.disk_usage(folder).free
    if free < size + _SPARE:
        raise ValueError(
            f"--output={os.fspath(folder)} needs {(size + _SPARE) / 1e6:,.0f} MB, but "
            f"its disk has only {free / 1e6:,.0f} MB left"
        )
