"""Processes of one run that were started with different settings."""

import os
import shutil
import socket
import subprocess
import sys

import pytest

from rahf.checkpoints import same_settings
from tests.support import tiny, tiny_captions
from tests.support.quick_xla import QUICK


def described(workdir="W", make=tiny.config, **fields):
    config = make()
    config.update_from_flattened_dict(
        {name.replace("__", "."): value for name, value in fields.items()}
    )
    return same_settings.describe(config, workdir)


def test_equal_settings_are_equal(tmp_path, monkeypatch):
    own = tmp_path / "elsewhere.model"
    shutil.copyfile("rahf/input/scenes_vocabulary.model", own)
    there = described(
        f"{tmp_path}/W",
        tiny_captions.get_config,
        input__workers=3,
        input__cache=True,
        input__vocabulary=str(own),
        input__captions__train="/mnt/other/train",
    )
    monkeypatch.chdir(tmp_path)
    shutil.copyfile(own, "scenes.model")
    here = described("W", tiny_captions.get_config, input__vocabulary="scenes.model")
    assert there == here


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", 5),
        ("input__batch_size", 4),
        ("input__scenes__train_examples", 7),
        ("checkpoint__every_steps", 3),
        ("eval__split", "test"),
        ("optimizer__skip_nonfinite", 2),
        ("sharding__mesh__data", 2),
        ("init_from", "elsewhere"),
    ],
)
def test_others_are_named(key, value):
    name = f"--config.{key.replace('__', '.')}"
    if name not in (before := described()):
        pytest.fail(f"no key {name}")
    lines = same_settings.explain([before, before, described(**{key: value})])
    assert lines.count(" in process ") == 2
    assert lines.startswith(f"{name}: {before[name]} in process 0, ")
    assert lines.endswith(" in process 2")


def test_workdirs_and_buckets(tmp_path):
    assert "--workdir: " in same_settings.explain([described("a"), described("b")])
    assert described("gs://bucket/W")["--workdir"] == "gs://bucket/W"
    missing = described(input__vocabulary=f"{tmp_path}/none.model")
    assert "none.model" in same_settings.explain([described(), missing])


def test_two_processes_are_refused_together(tmp_path):
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
    command = [
        *(sys.executable, "-m", "rahf.bin.train"),
        *("--config=tests/support/tiny_scenes.py", "--config.sharding.mesh.data=2"),
        *(f"--coordinator_address=127.0.0.1:{port}", "--num_processes=2"),
    ]
    own = (
        ["--process_id=0", f"--workdir={tmp_path}/a"],
        ["--process_id=1", f"--workdir={tmp_path}/b", "--config.seed=5"],
    )
    processes = [
        subprocess.Popen(
            [*command, *flags],
            env=os.environ | {"XLA_FLAGS": QUICK},
            stderr=subprocess.PIPE,
            text=True,
        )
        for flags in own
    ]
    for process in processes:
        _, error = process.communicate(timeout=300)
        last = error.strip().splitlines()[-1]
        assert process.returncode == 1, error
        assert last.startswith("error: the 2 processes of this run were started with")
        assert "--config.seed: 0 in process 0, 5 in process 1" in last
        assert (
            f"--workdir: {tmp_path}/a in process 0, {tmp_path}/b in process 1" in last
        )
    assert not any(tmp_path.iterdir())


def test_other_data_is_named(monkeypatch):
    monkeypatch.setattr(same_settings.jax, "process_count", lambda: 3)
    monkeypatch.setattr(same_settings, "gather", lambda own: [own, own, b"77"])
    with pytest.raises(ValueError, match="process 2 of .* than process 0 .*77, not 9a"):
        same_settings.check_data("9a")
    monkeypatch.setattr(same_settings, "gather", lambda own: [own, own, own])
    same_settings.check_data("9a")
    same_settings.check_data(None)
