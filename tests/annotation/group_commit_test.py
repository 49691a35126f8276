"""Steps are written together, and each is answered once it is on disk."""

import contextlib
import sqlite3
import threading

import pytest

from rahf.annotation.group_commit import GroupCommit


class _Log:
    """Transactions that say what they do."""

    def __init__(self):
        self.lines, self.depth, self.broken = [], 0, False

    @contextlib.contextmanager
    def transaction(self):
        self.depth += 1
        name = "step" if self.depth > 1 else "all"
        try:
            yield
            self.lines.append(f"commit {name}")
        except BaseException:
            self.lines.append(f"undo {name}")
            raise
        finally:
            self.depth -= 1


@pytest.fixture
def log():
    return _Log()


@pytest.fixture
def group(log):
    made = GroupCommit(log.transaction, lambda: log.broken)
    yield made
    made.close()


@contextlib.contextmanager
def _busy(group):
    """While the thread is busy, so that what is submitted makes one group."""
    started, go = threading.Event(), threading.Event()
    group.submit(lambda: (started.set(), go.wait(10)))
    assert started.wait(10)
    yield
    go.set()


def test_those_that_wait_share_a_commit_and_one_error_is_its_own(log, group):
    def fail():
        raise KeyError("no")

    with _busy(group):
        futures = [group.submit(lambda: 1), group.submit(fail), group.submit(lambda: 3)]
        given_up = group.submit(lambda: log.lines.append("never"))
        assert given_up.cancel()
    assert (futures[0].result(10), futures[2].result(10)) == (1, 3)
    with pytest.raises(KeyError):
        futures[1].result(10)
    steps = ["commit step", "undo step", "commit step", "commit all"]
    assert log.lines == ["commit step", "commit all", *steps]


def test_if_the_commit_fails_everybody_is_told(log, group):
    def fail():
        log.broken = True
        raise sqlite3.OperationalError("full")

    with _busy(group):
        futures = [group.submit(lambda: 1), group.submit(fail), group.submit(lambda: 3)]
    for future in futures:
        with pytest.raises(sqlite3.OperationalError):
            future.result(10)
    log.broken = False
    assert group.submit(lambda: 4).result(10) == 4


def test_closing_waits_for_what_was_submitted(log):
    group = GroupCommit(log.transaction, lambda: False)
    futures = [group.submit(lambda i=i: i) for i in range(1000)]
    group.close()
    assert [future.result(0) for future in futures] == list(range(1000))
    assert log.lines.count("commit all") < 1000
    GroupCommit(log.transaction, lambda: False).close()  # one that did nothing
