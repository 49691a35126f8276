"""Stores the images found so far in an SQLite file, so that a join can be resumed.

Every row group is one transaction, so a killed process keeps what was found up to the
last complete row group. Only one image is in memory at a time.
"""

import hashlib
import os
import pathlib
import sqlite3
from collections.abc import Collection, Iterable
from typing import Self

from rahf.datasets.richhf.joining import Picture

_TABLES = """
CREATE TABLE IF NOT EXISTS picture (uid TEXT PRIMARY KEY, image BLOB, prompt TEXT);
CREATE TABLE IF NOT EXISTS done
    (file TEXT, size INTEGER, row_group INTEGER, PRIMARY KEY (file, size, row_group));
CREATE TABLE IF NOT EXISTS wanted (digest TEXT);
"""


class PictureStore:
    """Pictures by uid, and which row groups have been read for them."""

    def __init__(self, path: str | os.PathLike, wanted: Collection[str]):
        """Opens or creates the file, for this process alone.

        Args:
          path: the SQLite file.
          wanted: the uids to look for. If they differ from last time, row groups are
            read again; pictures are kept.

        Raises:
          ValueError: the file is not such a store, or another process is using it.
        """
        self._path = pathlib.Path(path)
        try:
            self._db = sqlite3.connect(path, timeout=1, isolation_level=None)
            self._db.execute("PRAGMA locking_mode=EXCLUSIVE")
            self._db.execute("BEGIN EXCLUSIVE")
            for statement in filter(str.strip, _TABLES.split(";")):
                self._db.execute(statement)
            digest = hashlib.sha256("\n".join(sorted(wanted)).encode()).hexdigest()
            if self._db.execute("SELECT digest FROM wanted").fetchall() != [(digest,)]:
                self._db.execute("DELETE FROM done")
                self._db.execute("DELETE FROM wanted")
                self._db.execute("INSERT INTO wanted VALUES (?)", (digest,))
            self._db.execute("COMMIT")
        except sqlite3.DatabaseError as error:
            raise ValueError(
                f"{path} cannot be opened ({error}); is another build writing to this "
                "output? If not, remove the file and start again"
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._db.close()

    def uids(self) -> set[str]:
        """Returns the uids that have a picture and its prompt."""
        query = "SELECT uid FROM picture WHERE length(image) > 0 AND prompt IS NOT NULL"
        return {uid for (uid,) in self._db.execute(query)}

    def get(self, uid: str) -> Picture | None:
        """Returns the picture of a uid, None if none was found."""
        query = "SELECT image, prompt FROM picture WHERE uid = ?"
        row = self._db.execute(query, (uid,)).fetchone()
        return None if row is None else Picture(*row)

    def done(self, file: str, size: int) -> set[int]:
        """Returns the row groups of a file that have been read."""
        query = "SELECT row_group FROM done WHERE file = ? AND size = ?"
        return {group for (group,) in self._db.execute(query, (file, size))}

    def add(
        self,
        file: str,
        size: int,
        row_group: int,
        pictures: Iterable[tuple[str, Picture]],
    ) -> set[str]:
        """Stores the pictures of a row group, all of them or none.

        Args:
          file: the name of the Parquet file.
          size: the file's size in bytes, by which a replaced file is recognised.
          row_group: the index of the row group.
          pictures: pairs of uid and picture. The first complete picture of a uid is
            kept, or else the first.

        Returns:
          The uids whose picture is now complete.
        """
        found = set()
        self._db.execute("BEGIN")
        try:
            for uid, picture in pictures:
                if uid in found:
                    continue
                insert = "REPLACE" if picture.complete else "INSERT OR IGNORE"
                row = (uid, picture.image, picture.prompt)
                self._db.execute(f"{insert} INTO picture VALUES (?, ?, ?)", row)
                if picture.complete:
                    found.add(uid)
            values = (file, size, row_group)
            self._db.execute("INSERT OR REPLACE INTO done VALUES (?, ?, ?)", values)
            self._db.execute("COMMIT")
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        return found

    def remove(self) -> None:
        """Closes the file and removes it."""
        self._db.close()
        self._path.unlink()
