"""The database of a round of annotation: images, raters, assignments and answers.

One SQLite file in a workdir, in WAL mode and synced at every commit: what `save` has
returned survives `kill -9` and loss of power. Events are only ever appended, which
triggers enforce; the current answer is the last one of its assignment.
"""

import concurrent.futures
import contextlib
import dataclasses
import json
import os
import pathlib
import queue
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from rahf import durable
from rahf.annotation import schema
from rahf.annotation.group_commit import GroupCommit
from rahf.annotation.records import Answer, Feedback, RatingTask

FILE = "annotation.db"
#: What an event may be: work in progress, an answer, or why there is none.
KINDS = ("draft", "answer", "skip")
# The statements that begin, end and undo a step: a transaction, or one within it.
_TRANSACTION = ("BEGIN IMMEDIATE", "COMMIT", ("ROLLBACK",))
_SAVEPOINT = ("SAVEPOINT step", "RELEASE step", ("ROLLBACK TO step", "RELEASE step"))
# The states in which an assignment counts in its image's `load`.
_COUNTED = ("open", "answered")


class NotAssignedError(LookupError):
    """There is no such assignment, or it is someone else's."""


class LeaseExpiredError(ValueError):
    """The lease expired, and others have answered the image meanwhile."""


class DiskFullError(OSError):
    """Nothing was saved, because the disk is full."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Event:
    """One thing that a rater's page reported.

    Attributes:
      id: made by the page; the same id twice is the same event.
      kind: one of `KINDS`.
      label: the feedback so far, None for a skip.
      reason: why the image was skipped.
      seconds: the time spent on the image so far.
    """

    id: str
    kind: str
    label: Feedback | None = None
    reason: str | None = None
    seconds: float = 0.0


class AnswerStore:
    """An open database; its methods may be called from any thread.

    Use `open_store`, which also keeps other servers out.
    """

    def __init__(self, path: pathlib.Path):
        self.path = path
        self._lock = threading.RLock()
        self._writing = False  # by the thread that holds the lock
        self._readers: queue.SimpleQueue[sqlite3.Connection] = queue.SimpleQueue()
        self._group = GroupCommit(
            self.transaction, lambda: self._writing and not self._db.in_transaction
        )
        self._db = self._connect()
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute("PRAGMA foreign_keys = ON")
        with self.transaction() as db:
            schema.prepare(db, path)

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        db.row_factory = sqlite3.Row
        return db

    def close(self) -> None:
        """Closes the database, after all steps that were submitted."""
        self._group.close()
        with self._lock:
            while not self._readers.empty():
                self._readers.get().close()
            self._db.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Runs the body as one step that is on disk when it ends, or never was.

        Within another transaction of the same thread, the step is on disk when that one
        ends; if the body raises, it alone is undone.

        Raises:
          DiskFullError: the disk is full; nothing of the step was saved.
        """
        with self._lock:
            inner = self._writing
            begin, end, undo = _SAVEPOINT if inner else _TRANSACTION
            try:
                self._db.execute(begin)
                self._writing = True
                try:
                    yield self._db
                    self._db.execute(end)
                except BaseException:
                    if self._db.in_transaction:  # SQLite may have ended it itself
                        for statement in undo:
                            self._db.execute(statement)
                    raise
                finally:
                    self._writing = inner
            except sqlite3.OperationalError as error:
                full = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)  # a quota, too
                if error.sqlite_errorcode & 0xFF in full:
                    raise DiskFullError(f"{self.path}: {error}") from error
                raise

    def submit(self, step: Callable[[], Any]) -> concurrent.futures.Future:
        """Runs a step that uses this store, together with others that wait.

        Returns:
          Its result or its error, once what it wrote is on disk. What a step wrote that
          raised is undone.
        """
        return self._group.submit(step)

    def read(self, query: str, *values: Any) -> list[sqlite3.Row]:
        """Returns the rows of a query: of what is on disk, or within a transaction of
        the same thread, of what it has done so far. Nobody waits for a long query."""
        if self._lock.acquire(blocking=False):
            try:
                if self._writing:
                    return self._db.execute(query, values).fetchall()
            finally:
                self._lock.release()
        try:
            reader = self._readers.get_nowait()
        except queue.Empty:
            reader = self._connect()
        try:
            return reader.execute(query, values).fetchall()
        finally:
            self._readers.put(reader)

    def add_images(
        self, tasks: Iterable[tuple[RatingTask, int, int]], *, raters: int
    ) -> int:
        """Adds images that are not there yet, in their order.

        Args:
          tasks: (task, width, height in pixels).
          raters: answers wanted for each image.

        Returns:
          The number of images added.

        Raises:
          ValueError: an image is there with another prompt, size or guess.
        """
        added = 0
        with self.transaction() as db:
            [last] = db.execute("SELECT COALESCE(MAX(position), -1) FROM images")
            position = last[0] + 1
            for task, width, height in tasks:
                known = db.execute(
                    "SELECT prompt, width, height, guess, gold FROM images "
                    "WHERE image = ?",
                    (task.image,),
                ).fetchone()
                if known is not None:
                    _renew(db, task, tuple(known), (task.prompt, width, height))
                    continue
                db.execute(
                    "INSERT INTO images (id, position, image, prompt, split, width, "
                    "height, gold, guess, wanted, asked) "
                    "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?10)",
                    (
                        secrets.token_urlsafe(16),
                        position,
                        task.image,
                        task.prompt,
                        task.split,
                        width,
                        height,
                        _dumps(task.gold),
                        _dumps(task.guess),
                        raters,
                    ),
                )
                position, added = position + 1, added + 1
        return added

    def arrange(self, names: Sequence[str]) -> None:
        """Puts images into an order, after all others; those that were given to a
        rater meanwhile keep their places."""
        with self.transaction() as db:
            [last] = db.execute("SELECT COALESCE(MAX(position), -1) FROM images")
            db.executemany(
                "UPDATE images SET position = ? WHERE image = ? AND NOT EXISTS "
                "(SELECT 1 FROM assignments WHERE image = images.id)",
                enumerate(names, last[0] + 1),
            )

    def add_rater(self, name: str) -> None:
        """Adds a rater; one who is there already stays as they are."""
        with self.transaction() as db:
            db.execute("INSERT OR IGNORE INTO raters (name) VALUES (?)", (name,))

    def save(
        self,
        assignment: str,
        rater: str,
        events: Sequence[Event],
        *,
        lease: float,
        now: float | None = None,
    ) -> str:
        """Appends events; those that are there already change nothing.

        Args:
          assignment: the assignment's id.
          rater: who says so.
          events: in their order.
          lease: seconds for which an open assignment then stays the rater's.
          now: the time, in seconds since the epoch.

        Returns:
          The assignment's state: open, answered or skipped.

        Raises:
          NotAssignedError: the rater has no such assignment.
          LeaseExpiredError: too late, the image has all its answers.
          DiskFullError: nothing was saved.
        """
        now = time.time() if now is None else now
        with self.transaction() as db:
            row = db.execute(
                "SELECT a.state, a.image, i.load, i.wanted, i.gold FROM assignments a "
                "JOIN images i ON i.id = a.image WHERE a.id = ? AND a.rater = ?",
                (assignment, rater),
            ).fetchone()
            if row is None:
                raise NotAssignedError(assignment)
            known = {
                id_
                for [id_] in db.execute(
                    "SELECT id FROM events WHERE assignment = ?", (assignment,)
                )
            }
            before = state = row["state"]
            for event in events:
                if event.id in known:
                    continue
                if state == "expired":
                    if row["load"] >= row["wanted"] and row["gold"] is None:
                        raise LeaseExpiredError(assignment)
                    state = "open"
                known.add(event.id)
                db.execute(
                    "INSERT INTO events (assignment, id, kind, label, reason, seconds, "
                    "at) VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (
                        assignment,
                        event.id,
                        event.kind,
                        _dumps(event.label),
                        event.reason,
                        event.seconds,
                        now,
                    ),
                )
                if event.kind != "draft":
                    state = {"answer": "answered", "skip": "skipped"}[event.kind]
            db.execute(
                "UPDATE assignments SET state = ?, until = ? WHERE id = ?",
                (state, now + lease, assignment),
            )
            change = (state in _COUNTED) - (before in _COUNTED)
            if change:
                db.execute(
                    "UPDATE images SET load = load + ? WHERE id = ?",
                    (change, row["image"]),
                )
        return state

    def draft(self, assignment: str) -> tuple[Feedback | None, float]:
        """Returns what a rater last said about an image, complete or not, and the
        seconds spent on it so far."""
        rows = self.read(
            "SELECT label, (SELECT MAX(seconds) FROM events WHERE assignment = ?1) AS "
            "seconds FROM events WHERE assignment = ?1 AND label IS NOT NULL "
            "ORDER BY number DESC LIMIT 1",
            assignment,
        )
        return (loads(rows[0]["label"]), rows[0]["seconds"]) if rows else (None, 0.0)

    def answers(self) -> Iterator[Answer]:
        """Yields the current answers and skips, by image, in the order of assignment.

        Those of practice are left out. They are read as of one moment.
        """
        rows = self.read(
            "SELECT i.image, i.prompt, i.split, i.width, i.height, a.rater, e.kind, "
            "e.label, e.reason, e.seconds, a.guess_shown FROM assignments a "
            "JOIN images i ON i.id = a.image "
            "JOIN events e ON e.number = (SELECT MAX(number) FROM events "
            "WHERE assignment = a.id AND kind != 'draft') "
            "WHERE a.state IN ('answered', 'skipped') AND NOT a.qualification "
            "ORDER BY i.position, a.number"
        )
        for row in rows:
            yield Answer(
                image=row["image"],
                prompt=row["prompt"],
                rater=row["rater"],
                label=loads(row["label"]),
                width=row["width"],
                height=row["height"],
                seconds=row["seconds"],
                skipped=row["reason"],
                split=row["split"],
                guess_shown=bool(row["guess_shown"]),
            )


@contextlib.contextmanager
def open_store(workdir: str | os.PathLike) -> Iterator[AnswerStore]:
    """Opens a workdir's database, and makes it if there is none.

    Raises:
      durable.FolderInUseError: another server is using the workdir; names it.
      ValueError: the database is another version's.
    """
    folder = pathlib.Path(workdir)
    with durable.locked(folder, "serving annotation"):
        store = AnswerStore(folder / FILE)
        try:
            yield store
        finally:
            store.close()


def loads(text: str | None) -> Feedback | None:
    """Returns the feedback that the database holds as text."""
    if text is None:
        return None
    value = json.loads(text)
    for name, entry in value.items():
        if isinstance(entry, list):
            value[name] = tuple(tuple(x) if type(x) is list else x for x in entry)
    return Feedback(**value)


def _dumps(label: Feedback | None) -> str | None:
    return None if label is None else json.dumps(label.to_json(), ensure_ascii=False)


def _renew(db: sqlite3.Connection, task: RatingTask, known: tuple, came: tuple) -> None:
    *same, guess, gold = known
    if tuple(same) != came:
        raise ValueError(
            f"{task.image}: the workdir has it with prompt and size {tuple(same)}, now "
            f"{came}; use another workdir, or another name for the image"
        )
    if task.gold is not None and gold != (new := _dumps(task.gold)):
        if gold is None:  # people may have answered it as one of many
            raise ValueError(
                f"{task.image}: it has a known answer only now; use another workdir"
            )
        db.execute("UPDATE images SET gold = ? WHERE image = ?", (new, task.image))
    if task.guess is not None and guess != (new := _dumps(task.guess)):
        if guess is not None:
            raise ValueError(f"{task.image}: its guess changed; use another workdir")
        db.execute("UPDATE images SET guess = ? WHERE image = ?", (new, task.image))
