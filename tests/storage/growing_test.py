"""Logs grow on a disk and are copied to a bucket."""

import pytest

from rahf import storage
from rahf.storage import growing
from tests.support import cloud_storage


def test_on_a_disk_they_grow_where_they_are(tmp_path):
    files = growing.GrowingFiles(tmp_path, ("log",))
    assert files.folder == tmp_path
    files.grown()
    files.flush()
    files.close()
    assert list(tmp_path.iterdir()) == []


def test_in_a_bucket_they_are_copied_whole(monkeypatch):
    monkeypatch.setattr(growing, "COPY_SECONDS", 1e9)
    with cloud_storage.serving(monkeypatch) as bucket:
        bucket.put("w/log", b"a\nb\n")
        bucket.put("w/other", b"stays")
        files = growing.GrowingFiles(storage.place("gs://bucket/w"), ("log", "none"))
        log = files.folder / "log"
        assert log.read_bytes() == b"a\nb\n"
        log.write_bytes(b"a\nc\n")  # of the same size
        files.grown()  # not yet
        assert bucket.read("w/log") == b"a\nb\n"
        files.flush()
        assert bucket.read("w/log") == b"a\nc\n"
        uploads = len(bucket.asked)
        files.flush()  # nothing is new
        assert len(bucket.asked) == uploads
        monkeypatch.setattr(growing, "COPY_SECONDS", 0.0)
        with log.open("ab") as file:
            file.write(b"d\n")
        (files.folder / "events.1").write_bytes(b"board")
        files.grown()
        files.close()
        assert not files.folder.exists()
        assert bucket.read("w/log") == b"a\nc\nd\n"
        assert bucket.names() == ["w/events.1", "w/log", "w/other"]


def test_what_cannot_be_copied_is_told(monkeypatch):
    with cloud_storage.serving(monkeypatch) as bucket:
        files = growing.GrowingFiles(storage.place("gs://bucket/w"))
        (files.folder / "log").write_bytes(b"a\n")
        bucket.refused["POST", "/upload"] = 403
        with pytest.raises(OSError, match="gs://bucket/w/log cannot be written: Forb"):
            files.flush()
        with pytest.raises(OSError, match="gs://bucket/w/log cannot be written"):
            files.close()
        assert not files.folder.exists()
