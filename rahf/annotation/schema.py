"""The tables of the database of answers, and how older ones become like them."""

import pathlib
import sqlite3

_VERSION = 4

# `load` is the number of raters who have answered an image or hold it now, so that the
# next image is one step in an index however many there are. `asked` is what --raters
# said; `wanted` is that and what disputes and the manager have added.
_SCHEMA = """
CREATE TABLE images (
  id TEXT PRIMARY KEY, position INTEGER NOT NULL, image TEXT NOT NULL UNIQUE,
  prompt TEXT NOT NULL, split TEXT, width INTEGER NOT NULL, height INTEGER NOT NULL,
  gold TEXT, guess TEXT, wanted INTEGER NOT NULL, load INTEGER NOT NULL DEFAULT 0,
  extended INTEGER NOT NULL DEFAULT 0, asked INTEGER NOT NULL DEFAULT 0);
CREATE INDEX images_to_do ON images (load, position) WHERE load < wanted;
CREATE TABLE raters (
  name TEXT PRIMARY KEY, paused TEXT, forgiven INTEGER);
CREATE TABLE assignments (
  id TEXT PRIMARY KEY, image TEXT NOT NULL REFERENCES images,
  rater TEXT NOT NULL REFERENCES raters, state TEXT NOT NULL, until REAL NOT NULL,
  number INTEGER NOT NULL, qualification INTEGER NOT NULL,
  guess_shown INTEGER NOT NULL DEFAULT 0, UNIQUE (image, rater));
CREATE INDEX assignments_open ON assignments (until) WHERE state = 'open';
CREATE INDEX assignments_unfinished ON assignments (rater, state)
  WHERE state IN ('open', 'expired');
CREATE INDEX assignments_of_rater ON assignments (rater, number);
CREATE TABLE events (
  number INTEGER PRIMARY KEY AUTOINCREMENT, assignment TEXT NOT NULL
  REFERENCES assignments, id TEXT NOT NULL, kind TEXT NOT NULL, label TEXT,
  reason TEXT, seconds REAL NOT NULL, at REAL NOT NULL, UNIQUE (assignment, id));
CREATE INDEX events_of_assignment ON events (assignment, number);
CREATE TRIGGER events_stay BEFORE UPDATE ON events
  BEGIN SELECT RAISE(ABORT, 'events are append-only'); END;
CREATE TRIGGER events_remain BEFORE DELETE ON events
  BEGIN SELECT RAISE(ABORT, 'events are append-only'); END;
"""

# Version -> the statements that lead to the next one.
_UPGRADES = {
    1: (
        "ALTER TABLE images ADD COLUMN guess TEXT",
        "ALTER TABLE assignments ADD COLUMN guess_shown INTEGER NOT NULL DEFAULT 0",
    ),
    2: ("ALTER TABLE raters ADD COLUMN forgiven INTEGER",),
    3: (
        "ALTER TABLE images ADD COLUMN asked INTEGER NOT NULL DEFAULT 0",
        # It was not kept; the others have had more raters added.
        "UPDATE images SET asked = (SELECT MIN(wanted) FROM images)",
    ),
}


def prepare(db: sqlite3.Connection, path: pathlib.Path) -> None:
    """Makes the tables of a new database, or adds to those of an older version what is
    new since; call it within a transaction.

    Raises:
      ValueError: the database is a later version's.
    """
    [version] = db.execute("PRAGMA user_version").fetchone()
    if version == 0:
        for statement in _statements(_SCHEMA):
            db.execute(statement)
        db.execute(f"PRAGMA user_version = {_VERSION}")
        return
    if not 1 <= version <= _VERSION:
        raise ValueError(
            f"{path} has layout {version}, this version of rahf knows 1 to {_VERSION}; "
            "use the version that made it"
        )
    for before in range(version, _VERSION):
        for statement in _UPGRADES[before]:
            db.execute(statement)
        db.execute(f"PRAGMA user_version = {before + 1}")


def _statements(script: str) -> list[str]:
    """Splits a script, which sqlite3 would run outside of any transaction."""
    found, statement = [], ""
    for line in script.splitlines():
        statement += line + "\n"
        if sqlite3.complete_statement(statement):
            found.append(statement)
            statement = ""
    return found
