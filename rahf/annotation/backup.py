"""A copy of the answers, also while a server is using them."""

import contextlib
import os
import pathlib
import sqlite3

from rahf import durable
from rahf.annotation import store


def backup(workdir: str | os.PathLike, target: str | os.PathLike) -> pathlib.Path:
    """Copies the database as of one moment, also while a server is using it.

    Args:
      workdir: the workdir.
      target: the file to write, whole or not at all.

    Raises:
      ValueError: the workdir has no database.
      OSError: the file cannot be written.
    """
    source, target = pathlib.Path(workdir) / store.FILE, pathlib.Path(target)
    if not source.is_file():
        raise ValueError(f"{source}: no such file; is {workdir} a workdir of annotate?")
    with (
        durable.writing(target) as temporary,
        contextlib.closing(sqlite3.connect(source)) as live,
        contextlib.closing(sqlite3.connect(temporary)) as copy,
    ):
        live.backup(copy)
        copy.execute("PRAGMA journal_mode = DELETE")  # one file, without its log
    return target
