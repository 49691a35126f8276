"""Outputs are tried before the work; what is in the way is told with the flag."""

import pathlib

import pytest

from rahf import durable
from rahf.bin import scenes_ceiling


def test_a_folder_is_made_and_left_empty(tmp_path):
    folder = durable.check_folder(tmp_path / "a" / "b", ["x.json"])
    assert list(folder.iterdir()) == []
    (folder / "x.json").write_text("kept")
    durable.check_folder(folder, ["x.json"])
    assert (folder / "x.json").read_text() == "kept"


def test_what_is_in_the_way(tmp_path):
    file = tmp_path / "file"
    file.touch()
    (tmp_path / "folder" / "x.json").mkdir(parents=True)
    for path, message in (
        (file, "File exists"),
        (file / "below", "Not a directory"),
        (tmp_path / "folder", "x.json is a folder"),
        ("/proc/self", "cannot be written to: "),  # read-only, for root too
    ):
        with pytest.raises(ValueError, match=f"--output={path} .*{message}"):
            durable.check_folder(path, ["x.json"])
    for url in ("gs://bucket/x", pathlib.Path("gs://bucket/x")):
        for check in (durable.check_folder, durable.check_file):
            with pytest.raises(
                ValueError, match="--output=gs:/+bucket/x .*URLs are not"
            ):
                check(url)
    with pytest.raises(ValueError, match=f"--output={file}/x.html cannot be written"):
        durable.check_file(file / "x.html")


def test_an_unset_variable_is_not_the_current_folder():
    for check in (durable.check_folder, durable.check_file):
        with pytest.raises(ValueError, match="^--output='': expected a path"):
            check("")


def test_the_ceiling_is_not_computed_in_vain(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    monkeypatch.setattr(scenes_ceiling, "compute_ceiling", pytest.fail)
    with pytest.raises(SystemExit):
        scenes_ceiling.main([f"--output={tmp_path}/file/x.json"])
    assert (
        f"--output={tmp_path}/file/x.json cannot be written" in capsys.readouterr().err
    )
