"""Databases of older versions open, keep everything, and learn what is new."""

import sqlite3

import pytest

from rahf.annotation import assignment, store
from rahf.annotation.records import Feedback, RatingTask

# The tables as version 1 made them, without the indices on them.
VERSION_1 = """
CREATE TABLE images (
  id TEXT PRIMARY KEY, position INTEGER NOT NULL, image TEXT NOT NULL UNIQUE,
  prompt TEXT NOT NULL, split TEXT, width INTEGER NOT NULL, height INTEGER NOT NULL,
  gold TEXT, wanted INTEGER NOT NULL, load INTEGER NOT NULL DEFAULT 0,
  extended INTEGER NOT NULL DEFAULT 0);
CREATE INDEX images_to_do ON images (load, position) WHERE load < wanted;
CREATE TABLE raters (name TEXT PRIMARY KEY, paused TEXT);
CREATE TABLE assignments (
  id TEXT PRIMARY KEY, image TEXT NOT NULL REFERENCES images,
  rater TEXT NOT NULL REFERENCES raters, state TEXT NOT NULL, until REAL NOT NULL,
  number INTEGER NOT NULL, qualification INTEGER NOT NULL, UNIQUE (image, rater));
CREATE TABLE events (
  number INTEGER PRIMARY KEY AUTOINCREMENT, assignment TEXT NOT NULL
  REFERENCES assignments, id TEXT NOT NULL, kind TEXT NOT NULL, label TEXT,
  reason TEXT, seconds REAL NOT NULL, at REAL NOT NULL, UNIQUE (assignment, id));
INSERT INTO images (id, position, image, prompt, width, height, wanted, load)
  VALUES ('i1', 0, 'a.png', 'a cat', 20, 10, 3, 1);
INSERT INTO raters VALUES ('r1', NULL);
INSERT INTO assignments VALUES ('a1', 'i1', 'r1', 'answered', 0, 0, 0);
INSERT INTO events VALUES (1, 'a1', 'e1', 'answer',
  '{"scores": {"overall": 3}, "nothing_wrong": true}', NULL, 4.5, 0);
"""
GUESS = Feedback(misaligned_words=(1,), implausible_points=((3.5, 4.0),))


def _make(folder, version):
    folder.mkdir()
    with sqlite3.connect(folder / store.FILE) as db:
        db.executescript(VERSION_1)
        db.execute(f"PRAGMA user_version = {version}")
    db.close()


def test_a_workdir_of_version_1_opens_with_its_answers(tmp_path):
    _make(tmp_path / "w", 1)
    for _ in range(2):  # the second time, it is of today's version
        with store.open_store(tmp_path / "w") as opened:
            [answer] = opened.answers()
            assert answer.label == Feedback(scores={"overall": 3}, nothing_wrong=True)
            assert (answer.seconds, answer.guess_shown) == (4.5, False)
    task = RatingTask(image="a.png", prompt="a cat", guess=GUESS)
    with store.open_store(tmp_path / "w") as opened:
        assert opened.add_images([(task, 20, 10)], raters=3) == 0
        [[guess]] = opened.read("SELECT guess FROM images")
        assert store.loads(guess) == GUESS
        opened.add_rater("r2")
        assert assignment.take(opened, "r2", assignment.AssignmentRules())
        other = RatingTask(image="a.png", prompt="a cat", guess=Feedback(comment="x"))
        with pytest.raises(ValueError, match="guess changed; use another workdir"):
            opened.add_images([(other, 20, 10)], raters=3)


def test_today_has_the_columns_that_an_upgrade_makes(tmp_path):
    _make(tmp_path / "old", 1)
    columns = []
    for name in ("old", "new"):
        with store.open_store(tmp_path / name) as opened:
            query = "SELECT name FROM pragma_table_info(?)"
            tables = ("images", "assignments", "events", "raters")
            columns.append([{n for [n] in opened.read(query, t)} for t in tables])
            assert opened.read("PRAGMA user_version")[0][0] == 4
    assert columns[0] == columns[1]


def test_a_later_version_is_refused(tmp_path):
    _make(tmp_path / "w", 5)
    with (
        pytest.raises(ValueError, match="layout 5, this version of rahf knows 1 to 4"),
        store.open_store(tmp_path / "w"),
    ):
        pass
