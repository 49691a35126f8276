"""Writes files completely or not at all, and locks folders.

`writing`, `write_text` and `write_bytes` replace the content of a file in one step: a
reader, or a run resumed after `kill -9`, finds either the old or the new content.
`locked` restricts a folder to one process at a time.
"""

import contextlib
import fcntl
import json
import os
import pathlib
import re
import socket
import sys
import tempfile
from collections.abc import Iterator, Sequence

LOCK_FILE = ".rahf-lock"


@contextlib.contextmanager
def writing(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Yields a temporary path beside `path`, whose file then replaces it.

    The file is synced to disk before the rename, and the folder after it. If the body
    raises, the temporary file is removed and `path` stays as it was. The new file has
    the mode that `open` would give it, or that of the file it replaces.

    Raises:
      OSError: the folder does not exist, is not writable, or the disk is full.
    """
    path = pathlib.Path(path)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    temporary = pathlib.Path(name)
    try:
        yield temporary
        os.chmod(temporary, _mode(path))
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def write_bytes(path: str | os.PathLike, data: bytes) -> None:
    """Writes bytes to a file in one step; see `writing`."""
    with writing(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes text to a file, as UTF-8, in one step; see `writing`."""
    write_bytes(path, text.encode("utf-8"))


def check_folder(
    folder: str | os.PathLike, files: Sequence[str] = (), *, flag: str = "--output"
) -> pathlib.Path:
    """Makes a folder and tries to write to it, so that errors come before long work.

    Args:
      folder: the folder of future results.
      files: the names of the files that will be written.
      flag: the flag that named the folder, for the error.

    Returns:
      The folder.

    Raises:
      ValueError: the folder is "" or a URL, cannot be made or written to, or one of the
        files is a folder.
    """
    check_local(folder, flag=flag)
    folder = pathlib.Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(4096))
        for name in files:
            if (folder / name).is_dir():
                raise IsADirectoryError(f"{name} is a folder")
    except OSError as error:
        raise ValueError(
            f"{flag}={folder} cannot be written to: {error.strerror or error}"
        ) from error
    return folder


def check_local(path: str | os.PathLike, *, flag: str = "--output") -> None:
    """Raises ValueError for what pathlib would mistake for the path of something else.

    That is a URL, which would name a local folder, and "", such as an unset variable
    of a shell, which would name the current one.
    """
    if not os.fspath(path):
        raise ValueError(f"{flag}='': expected a path")
    if re.match("[a-z][a-z0-9+]+:/", os.fspath(path)):  # a Path keeps one slash only
        raise ValueError(f"{flag}={path} cannot be written: URLs are not supported")


def check_file(path: str | os.PathLike, *, flag: str = "--output") -> pathlib.Path:
    """Makes the folder of a file and tries to write there; see `check_folder`."""
    check_local(path, flag=flag)
    path = pathlib.Path(path)
    try:
        check_folder(path.parent, [path.name], flag=flag)
    except ValueError as error:
        reason = str(error).partition(" cannot be written to: ")[2]
        raise ValueError(f"{flag}={path} cannot be written: {reason}") from error
    return path


def sync_folder(folder: str | os.PathLike) -> None:
    """Syncs a folder to disk, without which a rename may be lost."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _mode(path: pathlib.Path) -> int:
    try:
        return path.stat().st_mode & 0o777
    except FileNotFoundError:
        mask = os.umask(0)
        os.umask(mask)
        return 0o666 & ~mask


class FolderInUseError(ValueError):
    """Another process is using the folder."""


@contextlib.contextmanager
def locked(folder: str | os.PathLike, purpose: str) -> Iterator[None]:
    """Locks a folder for this process while the body runs.

    The lock is the operating system's, on a file `.rahf-lock` in the folder. It is
    released when its process ends in any way, so it is never left behind. On network
    file systems it works across machines if the file system supports `flock`.

    Args:
      folder: the folder, made if it does not exist.
      purpose: what this process does there, such as "training", for messages of others.

    Raises:
      FolderInUseError: another process is using the folder; names its command, process
        id and machine.
      OSError: the folder cannot be made or written to.
    """
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK_FILE
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise in_use(folder, describe_holder(file.read())) from None
        file.truncate(0)
        file.write(describe_this_process(purpose))
        file.flush()
        yield


def in_use(folder: str | os.PathLike, holder: str) -> FolderInUseError:
    """Returns the error that another process is using a folder."""
    return FolderInUseError(
        f"{os.fspath(folder)} is in use by another process ({holder}); wait for it to "
        "end, or choose another folder"
    )


def describe_this_process(purpose: str) -> str:
    """Returns the content of a lock of this process; see `describe_holder`."""
    return json.dumps(
        {
            "purpose": purpose,
            "process": os.getpid(),
            "machine": socket.gethostname(),
            "command": " ".join(sys.argv)[:500],
        }
    )


def describe_holder(text: str) -> str:
    """Returns who holds a lock, in words, from the lock's content."""
    try:
        held = json.loads(text)
        return (
            f"{held['purpose']}, process {held['process']} on {held['machine']}: "
            f"{held['command']}"
        )
    except (ValueError, KeyError, TypeError):
        return "unknown"
