"""Answers are kept: exactly once, append-only, through full disks, copied while used."""

import sqlite3
import threading

import pytest

from rahf import durable
from rahf.annotation import assignment, backup, store
from rahf.annotation.records import Feedback, RatingTask
from tests.support.full_database import limit_pages

SCORES = {"plausibility": 2, "alignment": 4, "aesthetics": 3, "overall": 3}
RULES = assignment.AssignmentRules(lease=100)
LABEL = Feedback(scores=SCORES, implausible_points=((1.0, 2.5),), misaligned_words=(0,))


@pytest.fixture
def opened(tmp_path):
    with store.open_store(tmp_path / "w") as opened:
        tasks = [RatingTask(image=f"{i}.png", prompt="a cat") for i in range(2)]
        assert opened.add_images([(task, 20, 10) for task in tasks], raters=1) == 2
        assert opened.add_images([(tasks[0], 20, 10)], raters=1) == 0
        for name in ("a", "b"):
            opened.add_rater(name)
        yield opened


def _event(id_, kind="answer", label: Feedback | None = LABEL, **fields):
    return store.Event(id=id_, kind=kind, label=label, **fields)


def _take(opened, rater="a", now=0.0):
    taken = assignment.take(opened, rater, RULES, now=now)
    assert taken
    return taken


def test_an_event_sent_twice_counts_once(opened):
    taken = _take(opened)
    for _ in range(2):
        state = opened.save(taken, "a", [_event("1", seconds=3)], lease=100, now=1)
        assert state == "answered"
    assert len(opened.read("SELECT * FROM events")) == 1
    [answer] = opened.answers()
    assert (answer.label, answer.seconds, answer.image) == (LABEL, 3, "0.png")


def test_the_last_answer_wins_and_a_draft_changes_none(opened):
    taken, better = _take(opened), Feedback(scores=SCORES, nothing_wrong=True)
    events = [_event("1"), _event("2", label=better), _event("3", "draft")]
    assert opened.save(taken, "a", events, lease=100, now=1) == "answered"
    assert [answer.label for answer in opened.answers()] == [better]
    assert opened.draft(taken) == (LABEL, 0)


def test_a_skip_gives_the_image_back(opened):
    taken = _take(opened)
    skip = _event("1", "skip", None, reason="blurred")
    assert opened.save(taken, "a", [skip], lease=100, now=1) == "skipped"
    [answer] = opened.answers()
    assert answer.label is None and answer.skipped == "blurred"
    _take(opened, "b")
    images = opened.read("SELECT load FROM images ORDER BY position")
    assert [row["load"] for row in images] == [1, 0]


def test_events_cannot_be_changed_or_removed(opened):
    opened.save(_take(opened), "a", [_event("1")], lease=100, now=1)
    for statement in ("UPDATE events SET kind = 'skip'", "DELETE FROM events"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            opened.read(statement)


def test_only_the_own_assignment(opened):
    with pytest.raises(store.NotAssignedError):
        opened.save(_take(opened), "b", [_event("1")], lease=100, now=1)


def test_a_full_disk_saves_nothing_and_says_so(opened):
    taken = _take(opened)
    limit_pages(opened, 0)
    long = Feedback(comment="x" * 1900)
    events = [_event(str(i), "draft", long) for i in range(50)]
    with pytest.raises(store.DiskFullError):
        opened.save(taken, "a", events, lease=100, now=1)
    assert opened.draft(taken) == (None, 0)
    limit_pages(opened, 100_000)
    assert opened.save(taken, "a", events, lease=100, now=1) == "open"


def test_of_steps_on_a_full_disk_none_is_saved_and_all_are_told(opened):
    taken = _take(opened)
    limit_pages(opened, 1)
    steps = [
        lambda: opened.add_rater("c"),
        lambda: opened.save(taken, "a", events, lease=100, now=1),
        lambda: opened.add_rater("d"),
    ]
    long = Feedback(comment="x" * 1900)
    events = [_event(str(i), "draft", long) for i in range(50)]

    def together():  # one group: the thread is busy while they are submitted
        started.set()
        go.wait(10)

    started, go = threading.Event(), threading.Event()
    first = opened.submit(together)
    started.wait(10)
    futures = [opened.submit(step) for step in steps]
    go.set()
    first.result(10)
    for future in futures:
        with pytest.raises(store.DiskFullError):
            future.result(10)
    assert [name for [name] in opened.read("SELECT name FROM raters")] == ["a", "b"]
    limit_pages(opened, 100_000)
    assert [opened.submit(step).result(10) for step in steps] == [None, "open", None]
    assert opened.draft(taken)[0] == long


def test_a_long_step_keeps_no_reader_waiting(opened):
    with opened.transaction() as db:
        db.execute("INSERT INTO raters (name) VALUES ('c')")
        found = []
        query = "SELECT COUNT(*) FROM raters"
        other = threading.Thread(target=lambda: found.extend(opened.read(query)))
        other.start()
        other.join(10)
        assert [list(row) for row in found] == [[2]]  # what is on disk
        assert list(opened.read(query)[0]) == [3]  # what this step has done


def test_a_second_server_is_refused_by_name(opened):
    folder = opened.path.parent
    with (
        pytest.raises(durable.FolderInUseError, match="serving annotation"),
        store.open_store(folder),
    ):
        pass


def test_a_backup_while_running_has_every_answer(opened, tmp_path):
    opened.save(_take(opened), "a", [_event("1")], lease=100, now=1)
    copy = backup.backup(opened.path.parent, tmp_path / "copy.db")
    opened.save(_take(opened), "a", [_event("2")], lease=100, now=1)
    again = store.AnswerStore(copy)
    assert [answer.image for answer in again.answers()] == ["0.png"]
    again.close()
    with pytest.raises(ValueError, match="annotate serve. makes it"):
        backup.backup(tmp_path / "none", copy)


def test_a_workdir_reopened_has_all_and_refuses_another_image(tmp_path):
    task = RatingTask(image="a.png", prompt="a cat")
    with store.open_store(tmp_path) as opened:
        opened.add_images([(task, 20, 10)], raters=3)
    with store.open_store(tmp_path) as opened:
        assert len(opened.read("SELECT * FROM images")) == 1
        with pytest.raises(ValueError, match="another workdir"):
            opened.add_images([(task, 30, 10)], raters=3)


def test_a_known_answer_may_be_corrected_but_not_come_later(opened):
    def add(name, gold):
        task = RatingTask(image=name, prompt="a cat", gold=gold)
        return opened.add_images([(task, 20, 10)], raters=1)

    assert add("known.png", LABEL) == 1
    better = Feedback(scores=SCORES, nothing_wrong=True)
    assert add("known.png", better) == 0
    [[kept]] = opened.read("SELECT gold FROM images WHERE image = 'known.png'")
    assert store.loads(kept) == better
    with pytest.raises(ValueError, match=r"0\.png: it has a known answer only now"):
        add("0.png", LABEL)


def test_answers_of_practice_are_not_exported(opened):
    for practice in (1, 0):
        taken = _take(opened)
        with opened.transaction() as db:
            db.execute(
                "UPDATE assignments SET qualification = ? WHERE id = ?",
                (practice, taken),
            )
        opened.save(taken, "a", [_event("1")], lease=100)
    assert [answer.image for answer in opened.answers()] == ["1.png"]
