"""Where a workdir lies: in a local folder, or in a bucket, gs://bucket/folder.

`place` gives a path that has `/`, `name`, `exists`, `read_bytes` and the like in either
case: `pathlib.Path`, or `epath.Path`, which reads through gcsfs. What the two do not
share is here: files written whole or not at all, folders listed, moved and kept to one
process, and logs that grow, as an object cannot.

Of the stores with a URL there is Cloud Storage alone: Orbax, which writes and reads the
checkpoints, has no other.
"""

import contextlib
import errno
import os
import pathlib
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any, cast

from rahf import durable, extras

_PROBE = ".rahf-probe"


def place(path: str | os.PathLike, what: str = "a workdir") -> pathlib.Path:
    """Returns the path of a local folder or file, or of one in a bucket.

    Args:
      path: a local path or `gs://bucket/name`; a path from here comes back as it is.
      what: what it should be the path of, for the error.

    Returns:
      `pathlib.Path`; for a URL `epath.Path`, which has the methods that are used here.

    Raises:
      ValueError: it is empty, such as an unset variable of a shell; a URL of another
        kind; or gcsfs, which buckets need, is not installed.
    """
    text = os.fspath(path)
    if not text:
        raise ValueError(f"expected the path of {what}, got ''")
    if not (scheme := re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", text)):
        return pathlib.Path(path)
    if not text.startswith("gs://"):
        hint = "" if text[scheme.end() :][:1] == "/" else " (pass a URL as text)"
        raise ValueError(
            f"{text}: {what} is a local path or gs://bucket/name{hint}; with other "
            "stores, mount the bucket or copy (docs/scale.md)"
        )
    if not re.match(r"gs://[^/]+/+[^/]", text):
        raise ValueError(f"{text}: expected gs://bucket/folder, a folder in the bucket")
    return cast(pathlib.Path, _epath(text))


def _epath(url: str) -> Any:
    with extras.needing("cloud", url):
        import gcsfs  # noqa: F401
    from etils import epath
    from etils.epath import gpath
    from fsspec.config import conf

    # epath would import TensorFlow where it is installed, whose errors are its own.
    os.environ["EPATH_USE_TF"] = "false"
    gpath._is_tf_installed.cache_clear()
    # gcsfs would remember listings for good, while other processes write.
    conf.setdefault("gcs", {})["use_listings_cache"] = False
    return epath.Path(url.rstrip("/"))


def is_local(path: str | os.PathLike) -> bool:
    """Returns whether a path is not in a bucket."""
    return not os.fspath(path).startswith("gs://")


def _fs() -> Any:
    import fsspec

    return fsspec.filesystem("gs")


def absolute(path: pathlib.Path) -> pathlib.Path:
    """Returns a path from `place` that does not depend on the current folder."""
    return pathlib.Path(os.path.abspath(path)) if is_local(path) else path


def in_one_line(error: BaseException) -> str:
    """Returns an error's message, which the libraries of stores write over many lines."""
    return " ".join(str(error).split())[:300] or type(error).__name__


def errors_of(path: str | os.PathLike) -> tuple[type[Exception], ...]:
    """Returns what Orbax raises where a place is at fault.

    The libraries of buckets have errors of their own, derived from Exception alone.
    """
    return (OSError, ValueError, RuntimeError) if is_local(path) else (Exception,)


@contextlib.contextmanager
def failures_told(path: str | os.PathLike, verb: str) -> Iterator[None]:
    """Turns what the libraries of a bucket raise into an OSError of one line."""
    try:
        yield
    except Exception as error:
        if is_local(path):
            raise
        raise OSError(
            f"{os.fspath(path)} cannot be {verb}: {in_one_line(error)}"
        ) from error


def read_bytes(path: pathlib.Path) -> bytes:
    """Reads a file.

    Raises:
      FileNotFoundError: it does not exist.
      OSError: it cannot be read.
    """
    if is_local(path):
        return path.read_bytes()
    try:
        return _fs().cat_file(os.fspath(path))
    except FileNotFoundError:
        raise
    except Exception as error:
        raise OSError(errno.EIO, in_one_line(error), os.fspath(path)) from error


@contextlib.contextmanager
def local_copy(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields the file, or a temporary copy of one in a bucket."""
    if is_local(path):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="rahf-") as folder:
        copy = pathlib.Path(folder) / path.name
        with failures_told(path, "read"):
            _fs().get_file(os.fspath(path), str(copy))
        yield copy


@contextlib.contextmanager
def writing(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields a local temporary path, whose file then replaces `path` in one step.

    See `durable.writing`; an object of a bucket is replaced by one upload.
    """
    if is_local(path):
        with durable.writing(path) as temporary:
            yield temporary
        return
    with tempfile.TemporaryDirectory(prefix="rahf-") as folder:
        temporary = pathlib.Path(folder) / path.name
        yield temporary
        with failures_told(path, "written"):
            _fs().put_file(str(temporary), os.fspath(path))


def write_bytes(path: pathlib.Path, data: bytes) -> None:
    """Writes bytes to a file in one step."""
    if is_local(path):
        durable.write_bytes(path, data)
        return
    with failures_told(path, "written"):
        _fs().pipe_file(os.fspath(path), data)


def write_text(path: pathlib.Path, text: str) -> None:
    """Writes text to a file, as UTF-8, in one step."""
    write_bytes(path, text.encode("utf-8"))


def make_folder(folder: pathlib.Path) -> None:
    """Makes a local folder and its parents; a bucket has none to make."""
    if is_local(folder):
        folder.mkdir(parents=True, exist_ok=True)


def has_vanished(folder: pathlib.Path) -> bool:
    """Returns whether a folder is gone that was made; a bucket has none to lose."""
    return is_local(folder) and not folder.is_dir()


def list_files(folder: pathlib.Path) -> list[str]:
    """Returns the names of all files below a folder, relative to it, sorted."""
    if is_local(folder):
        found = [path for path in folder.rglob("*") if path.is_file()]
        return sorted(path.relative_to(folder).as_posix() for path in found)
    start = os.fspath(folder).removeprefix("gs://").rstrip("/") + "/"
    return sorted(name.removeprefix(start) for name in _fs().find(start))


def move(folder: pathlib.Path, target: pathlib.Path) -> None:
    """Moves a folder to another name beside it, over what is there.

    In a bucket every object is copied, then removed: not in one step.
    """
    remove(target)
    if is_local(folder):
        folder.rename(target)
        return
    with failures_told(target, "written"):
        for name in list_files(folder):
            _fs().cp_file(os.fspath(folder / name), os.fspath(target / name))
    remove(folder)


def remove(folder: pathlib.Path) -> None:
    """Removes a folder, if it exists."""
    if is_local(folder):
        shutil.rmtree(folder, ignore_errors=True)
    elif list_files(folder):
        with failures_told(folder, "removed"):
            _fs().rm(os.fspath(folder), recursive=True)


def check_folder(
    folder: str | os.PathLike, files: Sequence[str] = (), *, flag: str = "--output"
) -> pathlib.Path:
    """Tries to write to a folder, so that errors come before long work.

    See `durable.check_folder`; in a bucket an object is written and removed.

    Raises:
      ValueError: it cannot be written to.
    """
    if is_local(folder):
        return durable.check_folder(folder, files, flag=flag)
    path = place(folder, "an output")
    try:
        write_bytes(path / _PROBE, b"")
        with failures_told(path, "written"):
            _fs().rm_file(os.fspath(path / _PROBE))
    except OSError as error:
        raise ValueError(f"{flag}: {error}") from error
    return path


def check_file(path: str | os.PathLike, *, flag: str = "--output") -> pathlib.Path:
    """Makes the folder of a file and tries to write there; see `check_folder`."""
    if is_local(path):
        return durable.check_file(path, flag=flag)
    there = place(path, "an output")
    check_folder(there.parent, flag=flag)
    return there


@contextlib.contextmanager
def locked(folder: pathlib.Path, purpose: str) -> Iterator[None]:
    """Keeps a folder to this process while the body runs, and tries to write there.

    A local folder is locked by the operating system (`durable.locked`), one in a
    bucket by an object that this process keeps renewing (`rahf.storage.bucket_lock`).

    Raises:
      FolderInUseError: another process is using the folder.
      OSError: it cannot be written to.
    """
    if is_local(folder):
        lock = durable.locked(folder, purpose)
    else:
        from rahf.storage import bucket_lock

        lock = bucket_lock.locked(os.fspath(folder), purpose)
    with lock:
        yield
