"""A bucket's folder is kept to one process, and freed when that dies."""

import threading
import time

import pytest

from rahf import durable, storage
from rahf.storage import bucket_lock
from tests.support import cloud_storage

LOCK = f"w/{durable.LOCK_FILE}"


@pytest.fixture(name="bucket")
def _bucket(monkeypatch):
    monkeypatch.setattr(bucket_lock, "RENEW_SECONDS", 0.02)
    with cloud_storage.serving(monkeypatch) as bucket:
        yield bucket


def _lock():
    return storage.locked(storage.place("gs://bucket/w"), "training")


def _is_renewed(bucket, since: int) -> bool:
    """Waits until the lock has a later generation; not for ever."""
    for _ in range(6_000):
        if bucket.objects[LOCK][1] > since:
            return True
        time.sleep(0.01)
    return False


def test_a_living_holder_keeps_others_out(bucket):
    with _lock():
        message = r"gs://bucket/w is in use by another process \(training, process \d+"
        with pytest.raises(durable.FolderInUseError, match=message), _lock():
            pass
        assert LOCK in bucket.objects
    assert bucket.names() == []
    with _lock():
        pass


def test_what_a_dead_holder_left_is_taken_over(bucket, monkeypatch, capsys):
    monkeypatch.setattr(bucket_lock, "GIVEN_UP_SECONDS", 0.1)
    bucket.put(LOCK, durable.describe_this_process("training").encode())
    with _lock():
        assert b"token" in bucket.read(LOCK)
    assert bucket.names() == []
    assert "is locked (training, process" in capsys.readouterr().err


def test_of_two_that_take_over_at_once_one_gets_it(bucket, monkeypatch):
    monkeypatch.setattr(bucket_lock, "GIVEN_UP_SECONDS", 0.1)
    bucket.put(LOCK, b"dead")

    def watch(store, folder, first):
        bucket.put(LOCK, b"the other one")  # just before this one writes
        return first

    monkeypatch.setattr(bucket_lock, "_watch", watch)
    with pytest.raises(durable.FolderInUseError, match="started at the same"), _lock():
        pass
    assert bucket.read(LOCK) == b"the other one"


def test_a_holder_that_was_replaced_ends(bucket, monkeypatch):
    ended = threading.Event()
    monkeypatch.setattr(bucket_lock, "end_process", lambda message: ended.set())
    with _lock():
        lost = bucket.put(LOCK, bucket.read(LOCK))  # its answer did not arrive
        assert _is_renewed(bucket, since=lost)
        assert not ended.is_set()
        bucket.put(LOCK, b"another's")
        assert ended.wait(60)
    assert bucket.read(LOCK) == b"another's"


def test_what_the_store_says_is_told_in_one_line(bucket):
    def check(message):
        with pytest.raises(OSError, match=message) as caught, _lock():
            pass
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 400

    with (
        pytest.raises(OSError, match="gs://other/w cannot be written to: 404 .*exist"),
        storage.locked(storage.place("gs://other/w"), "training"),
    ):
        pass
    bucket.refused["GET", "/b/bucket?"] = 403  # what removing steps needs
    check("gs://bucket/w cannot be written to: 403 .*refused by the test")
    bucket.refused = {("POST", "/upload"): 403}
    check("gs://bucket/w cannot be written to: .*refused by the test")
    bucket.refused.clear()


def test_no_network_is_told_at_once(bucket, monkeypatch):
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:1")
    message = "gs://bucket/w cannot be written to: .*127.0.0.1"
    with pytest.raises(OSError, match=message), _lock():
        pass
