"""Without TensorFlow all runs that can, and the rest says what to install."""

import os
import pathlib
import subprocess
import sys

import pytest

from rahf import extras
from tests.bin.train_test import ONE_TARGET, SMALL

ROOT = pathlib.Path(__file__).resolve().parents[1]

# As if the packages of the extra were not installed.
_WITHOUT = """
import importlib.machinery, runpy, sys

class Finder(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        absent = ("tensorflow", "tensorflow_datasets", "tensorflow_text", "seqio")
        if name.partition(".")[0] in absent:
            return None
        return super().find_spec(name, path, target)

place = sys.meta_path.index(importlib.machinery.PathFinder)
sys.meta_path[place] = Finder
module = sys.argv[1]
del sys.argv[1]
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""
_ONE_STEP = ("--config.training_steps=1", *ONE_TARGET)


def _run(module, *flags) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", _WITHOUT, f"rahf.bin.{module}", *map(str, flags)],
        cwd=ROOT,
        env=os.environ | {"XLA_FLAGS": ""},  # one device
        capture_output=True,
        text=True,
        check=False,
    )


def _says(done, purpose):
    wanted = f'{purpose} needs .*: pip install "rahf\\[train\\]"'
    with pytest.raises(ValueError, match=wanted):
        raise ValueError(done.stderr)
    assert done.returncode and "Traceback" not in done.stderr


def test_training_evaluating_and_predicting_need_no_tensorflow(tmp_path):
    work, pictures = tmp_path / "w", tmp_path / "pictures"
    config = "--config=scenes_demo"
    for module, flags in {
        "train": (config, f"--workdir={work}", *SMALL, *_ONE_STEP),
        "eval_scores": (f"--checkpoint={work}", "--split=dev", "--examples=2"),
        "export_scenes": (f"--output={pictures}", "--examples=2", "--size=64"),
        "predict": (pictures, f"--checkpoint={work}", f"--output={tmp_path / 'p'}"),
    }.items():
        done = _run(module, *flags)
        assert done.returncode == 0, done.stderr


def test_what_needs_it_says_so(tmp_path):
    work = f"--workdir={tmp_path / 'w'}"
    done = _run("train", "--config=scenes_demo", work, "--config.input.loader=seqio")
    _says(done, "the seqio loader")
    data = f"--config.input.consolidated.data_dir={tmp_path}"
    _says(
        _run("train", "--config=consolidated", work, data), "a dataset in TFDS's layout"
    )


def test_a_mistake_of_our_own_is_no_missing_package():
    with pytest.raises(ModuleNotFoundError) as found, extras.needing("train", "it"):
        import rahf.nothing  # noqa: F401  # type: ignore[import-not-found]
    assert not isinstance(found.value, extras.MissingExtraError)
