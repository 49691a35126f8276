"""One set of functions for files on a disk and in a bucket."""

import pathlib
import sys

import pytest

from rahf import storage
from tests.support import cloud_storage


@pytest.fixture(name="bucket")
def _bucket(monkeypatch):
    with cloud_storage.serving(monkeypatch) as bucket:
        yield bucket


@pytest.fixture(name="folder", params=["disk", "bucket"])
def _folder(request, tmp_path, monkeypatch):
    if request.param == "disk":
        (tmp_path / "w").mkdir()
        yield tmp_path / "w"
        return
    with cloud_storage.serving(monkeypatch):
        yield storage.place("gs://bucket/w")


def test_files_are_written_read_and_listed(folder):
    inner = folder / "a" / "b"
    storage.make_folder(inner)
    storage.write_bytes(inner / "x", b"\r\n\x00 old")
    storage.write_text(inner / "x", "nëw")
    storage.write_text(folder / "top", "")
    assert storage.read_bytes(inner / "x") == "nëw".encode()
    assert (inner / "x").is_file() and (folder / "a").is_dir()
    assert storage.list_files(folder) == ["a/b/x", "top"]
    assert storage.list_files(folder / "absent") == []
    assert [path.name for path in (folder / "a").iterdir()] == ["b"]
    with pytest.raises(FileNotFoundError):
        storage.read_bytes(folder / "absent")
    with storage.local_copy(inner / "x") as copy:
        assert copy.read_text(encoding="utf-8") == "nëw"


def test_what_other_processes_write_is_seen(bucket):
    folder = storage.place("gs://bucket/w")
    for name in ("a", "b"):
        assert not (folder / name).exists()
        bucket.put(f"w/{name}", b"")
        assert (folder / name).exists()
        assert [path.name for path in folder.iterdir()][-1] == name
        assert storage.list_files(folder)[-1] == name


def test_a_file_is_replaced_whole_or_not_at_all(folder):
    path = folder / "x"
    storage.write_text(path, "old")
    with pytest.raises(RuntimeError), storage.writing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert storage.read_bytes(path) == b"old"
    with storage.writing(path) as temporary:
        temporary.write_text("new")
        assert storage.read_bytes(path) == b"old"
    assert storage.read_bytes(path) == b"new"
    assert storage.list_files(folder) == ["x"]


def test_a_folder_is_moved_over_another(folder):
    for name in ("3/state/a", "3/b", "3.damaged/old", "30/c"):
        storage.make_folder((folder / name).parent)
        storage.write_text(folder / name, name)
    storage.move(folder / "3", folder / "3.damaged")
    left = ["3.damaged/b", "3.damaged/state/a", "30/c"]
    assert storage.list_files(folder) == left
    storage.remove(folder / "absent")
    storage.remove(folder / "3.damaged")
    assert storage.list_files(folder) == ["30/c"]


def test_places():
    local = storage.place("runs/a")
    assert local == pathlib.Path("runs/a") and storage.is_local(local)
    assert storage.absolute(local) == pathlib.Path.cwd() / "runs" / "a"
    there = storage.place("gs://bucket/runs/a/")
    assert not storage.is_local(there) and storage.absolute(there) == there
    assert storage.place(there / "x").parent == there
    assert str(there / "x") == "gs://bucket/runs/a/x"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("", "expected the path of a workdir, got ''"),
        ("gs://bucket", "gs://bucket: expected gs://bucket/folder"),
        ("gs://bucket/", "expected gs://bucket/folder"),
        ("s3://bucket/run", "s3://bucket/run: a workdir is a local path or gs://bu"),
        ("file:///runs/a", "file:///runs/a: a workdir is a local path"),
        (pathlib.Path("gs://bucket/run"), r"gs:/bucket/run: .*\(pass a URL as text\)"),
    ],
)
def test_other_places_are_refused(path, message):
    with pytest.raises(ValueError, match=message):
        storage.place(path)


def test_without_gcsfs_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(ValueError, match=r'pip install "rahf\[cloud\]"'):
        storage.place("gs://bucket/run")


def test_outputs_are_tried_first(bucket):
    folder = storage.check_folder("gs://bucket/w/eval", ["x.json"])
    page = storage.check_file("gs://bucket/w/report.html")
    assert (str(folder), page.name) == ("gs://bucket/w/eval", "report.html")
    assert bucket.names() == []
    with pytest.raises(ValueError, match="--output: gs://other/w/.* cannot be written"):
        storage.check_folder("gs://other/w")
    bucket.refused["POST", "/upload"] = 403
    message = "--output: gs://bucket/w/.* cannot be written: Forbidden: .*by the test$"
    with pytest.raises(ValueError, match=message) as caught:
        storage.check_file("gs://bucket/w/report.html")
    assert "\n" not in str(caught.value)
