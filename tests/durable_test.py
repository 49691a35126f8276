"""Files written whole or not at all, folders kept to one process."""

import multiprocessing
import os
import resource
import stat

import pytest

from rahf import durable


def test_a_file_is_replaced_in_one_step(tmp_path):
    path = tmp_path / "config.json"
    durable.write_text(path, "old")
    with pytest.raises(RuntimeError), durable.writing(path) as temporary:
        temporary.write_text("half")
        assert path.read_text() == "old"
        raise RuntimeError
    assert path.read_text() == "old"
    with path.open() as reader:  # whoever reads meanwhile reads the old file to its end
        durable.write_text(path, "new")
        assert reader.read() == "old"
    assert path.read_text() == "new"
    assert [each.name for each in tmp_path.iterdir()] == ["config.json"]


def test_the_mode_is_as_open_would_give_it(tmp_path):
    (tmp_path / "neighbour").write_text("")
    durable.write_text(tmp_path / "mine", "")
    modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert len(modes) == 1
    (tmp_path / "mine").chmod(0o640)
    durable.write_text(tmp_path / "mine", "again")
    assert stat.S_IMODE((tmp_path / "mine").stat().st_mode) == 0o640


def _hold(folder, ready, go):
    with durable.locked(folder, "training"):
        ready.set()
        go.wait(60)


def test_a_full_disk_is_found_before_the_work(tmp_path):
    """Making a file takes no room, and writing to it does."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        with pytest.raises(ValueError, match="--output=.* cannot be written to: File"):
            durable.check_folder(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert durable.check_folder(tmp_path) == tmp_path


def test_a_folder_is_kept_to_one_process_and_freed_by_its_death(tmp_path):
    context = multiprocessing.get_context("spawn")
    ready, go = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(tmp_path / "w", ready, go))
    other.start()
    try:
        assert ready.wait(60)
        message = rf"in use by another process \(training, process {other.pid} on "
        with (
            pytest.raises(durable.FolderInUseError, match=message),
            durable.locked(tmp_path / "w", "training"),
        ):
            pass
    finally:
        other.kill()  # SIGKILL: nothing of its own runs
        other.join()
    with durable.locked(tmp_path / "w", "training"):
        assert str(os.getpid()) in (tmp_path / "w" / durable.LOCK_FILE).read_text()
