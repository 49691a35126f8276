"""Tables in a temporary file, for what would not fit in memory a million times.

SQLite keeps a few megabytes of each in memory and the rest in a file without a name,
which is gone with its process however that ends. It lies in the folder `TMPDIR` names,
else in /var/tmp.
"""

import hashlib
import os
import sqlite3
from collections.abc import Container, Iterable, Iterator
from typing import Any

#: What SQLite keeps of a database in memory, in KiB.
_CACHE_KIB = 8192


class Scratch:
    """A database of one process and one thread; errors of its file are ValueErrors."""

    def __init__(self, *tables: str):
        """Makes the tables, each given as SQL has it behind CREATE TABLE."""
        try:
            # Of one thread, but the garbage collector may close it in any other.
            self._database = sqlite3.connect(
                "", isolation_level=None, check_same_thread=False
            )
        except sqlite3.OperationalError as error:
            raise _told(error) from error
        self.run(f"PRAGMA cache_size=-{_CACHE_KIB}")
        self.run("PRAGMA journal_mode=OFF")  # there is nothing to go back to
        self.run("PRAGMA synchronous=OFF")
        self.run("BEGIN")  # to no end: nothing is to survive
        for table in tables:
            self.run(f"CREATE TABLE {table}")

    def __del__(self):
        # A connection is part of a cycle, which the garbage collector finds late.
        if hasattr(self, "_database"):
            self._database.close()

    def run(self, sql: str, *values: Any) -> None:
        """Runs a statement that returns nothing."""
        self.first(sql, *values)

    def first(self, sql: str, *values: Any) -> tuple | None:
        """Returns the first row that a query finds."""
        try:
            return self._database.execute(sql, values).fetchone()
        except sqlite3.OperationalError as error:
            raise _told(error) from error

    def fill(self, sql: str, rows: Iterable[tuple]) -> int:
        """Runs a statement once for each row; returns their number."""
        try:
            return self._database.executemany(sql, rows).rowcount
        except sqlite3.OperationalError as error:
            raise _told(error) from error

    def rows(self, sql: str, *values: Any) -> Iterator[tuple]:
        """Yields the rows that a query finds, a few in memory."""
        try:
            yield from self._database.execute(sql, values)
        except sqlite3.OperationalError as error:
            raise _told(error) from error


class Tally:
    """A number for each text, 0 if it has none: a `collections.Counter` on disk."""

    def __init__(self, scratch: Scratch, name: str, beneath: Container[str] = ()):
        """Makes an empty one.

        Args:
          scratch: where it is kept.
          name: the name of its table.
          beneath: texts that are in it, too, whatever their number.
        """
        scratch.run(
            f"CREATE TABLE {name} (text BLOB PRIMARY KEY, count INTEGER) WITHOUT ROWID"
        )
        self._scratch, self._beneath = scratch, beneath
        self._get = f"SELECT count FROM {name} WHERE text = ?"
        self._set = f"INSERT OR REPLACE INTO {name} VALUES (?, ?)"

    def __contains__(self, text: object) -> bool:
        text = str(text)
        found = self._scratch.first(self._get, key(text))
        return found is not None or text in self._beneath

    def __getitem__(self, text: str) -> int:
        found = self._scratch.first(self._get, key(text))
        return found[0] if found else 0

    def __setitem__(self, text: str, count: int) -> None:
        self._scratch.run(self._set, key(text), count)


def key(*texts: str) -> bytes:
    """Returns 16 bytes that other texts do not have; lone surrogates are allowed."""
    data = b"\0\0".join([pack(text).replace(b"\0", b"\0\1") for text in texts])
    return hashlib.blake2b(data, digest_size=16).digest()


def pack(text: str) -> bytes:
    """Returns any text as bytes: names of files and JSON may have lone surrogates."""
    return text.encode("utf-8", "surrogatepass")


def unpack(data: bytes) -> str:
    """Returns the text that `pack` was given."""
    return data.decode("utf-8", "surrogatepass")


def _told(error: sqlite3.OperationalError) -> ValueError:
    """Returns an error of the temporary file with the name of its folder."""
    names = (os.environ.get(name) for name in ("SQLITE_TMPDIR", "TMPDIR"))
    folder = next(filter(None, names), "/var/tmp")
    return ValueError(
        f"{folder}: the list of images cannot be kept there ({error}); it takes about "
        "1 GB for a million images; TMPDIR=... names another folder"
    )
