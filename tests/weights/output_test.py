"""The folder that an import or an export writes: who has it, and what is left of it."""

import pytest

from rahf import durable
from rahf.export import folder as export_folder
from rahf.weights import files, output


def test_a_folder_that_stays_empty_is_removed(tmp_path):
    folder = tmp_path / "new" / "W"
    with pytest.raises(KeyError), output.claimed(folder, "a test"):
        assert folder.is_dir()
        raise KeyError
    assert not folder.exists()
    with output.claimed(folder, "a test"):
        (folder / "file").write_text("")
    assert [path.name for path in folder.iterdir()] == ["file"]
    old = tmp_path / "old"
    old.mkdir()
    with output.claimed(old, "a test"):
        pass
    assert old.is_dir() and not list(old.iterdir())


def test_errors_of_the_body_are_its_own(tmp_path):
    with pytest.raises(FileNotFoundError), output.claimed(tmp_path / "W", "a test"):
        (tmp_path / "none").read_bytes()


def test_an_export_tries_its_output_first(tmp_path):
    """Before the checkpoint is looked for: there is none."""
    run = lambda folder: export_folder.export("/none", folder, form="safetensors")
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "x", "/proc/none"):
        with pytest.raises(ValueError, match=f"--output={folder} cannot be written: "):
            run(folder)
    with pytest.raises(ValueError, match="--output=gs:/+a/b .*URLs are not supported"):
        run("gs://a/b")
    with (
        durable.locked(tmp_path / "busy", "a test"),
        pytest.raises(ValueError, match="busy is in use by another process .a test"),
    ):
        run(tmp_path / "busy")


@pytest.mark.parametrize("name", ["a\ud800b", "a\0b"])
def test_paths_that_no_disk_has(tmp_path, name):
    with pytest.raises(ValueError, match="cannot be read: "):
        files.read(tmp_path / name)
