"""A copy of the answers, also while a server is using them."""

import contextlib
import os
import pathlib
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator

from rahf import durable
from rahf.annotation import store, tokens

# What a workdir holds beside backups and exports.
_OWN = (
    store.FILE,
    f"{store.FILE}-wal",
    f"{store.FILE}-shm",
    tokens.FILE,
    tokens.LOCK,
    "uncertainty.json",
    ".rahf-lock",
)


def check_output(workdir: str | os.PathLike, output: pathlib.Path) -> None:
    """Raises ValueError if a file to write is one that a server is using."""
    folder = pathlib.Path(workdir)
    same = output.parent.exists() and folder.exists()
    if same and output.parent.samefile(folder) and output.name in _OWN:
        raise ValueError(
            f"--output={output}: the server keeps its work there; name another file"
        )


def backup(workdir: str | os.PathLike, target: str | os.PathLike) -> pathlib.Path:
    """Copies the database as of one moment, also while a server is using it.

    Args:
      workdir: the workdir.
      target: the file to write, whole or not at all.

    Raises:
      ValueError: the workdir has no database.
      OSError: the file cannot be written.
    """
    check_output(workdir, pathlib.Path(target))
    source, target = pathlib.Path(workdir) / store.FILE, pathlib.Path(target)
    if not source.is_file():
        raise ValueError(
            f"{source}: no such file; `annotate serve` makes it. Is {workdir} the "
            "workdir it was given?"
        )
    with (
        durable.writing(target) as temporary,
        _opened(source) as live,
        contextlib.closing(sqlite3.connect(temporary)) as copy,
    ):
        live.backup(copy)
        copy.execute("PRAGMA journal_mode = DELETE")  # one file, without its log
    return target


@contextlib.contextmanager
def _opened(source: pathlib.Path) -> Iterator[sqlite3.Connection]:
    """Opens a database to read, also where nothing may be written beside it.

    SQLite needs its log and shared memory there. A server that runs has made them; where
    they are missing and cannot be made, nobody is writing, and a copy of the files does.
    """
    with contextlib.closing(sqlite3.connect(source)) as live:
        try:
            live.execute("SELECT COUNT(*) FROM sqlite_master")
        except sqlite3.OperationalError:
            pass
        else:
            yield live
            return
    with tempfile.TemporaryDirectory() as folder:
        for name in (source.name, f"{source.name}-wal"):
            if source.with_name(name).is_file():
                shutil.copyfile(source.with_name(name), pathlib.Path(folder) / name)
        place = pathlib.Path(folder) / source.name
        with contextlib.closing(sqlite3.connect(place)) as live:
            yield live
