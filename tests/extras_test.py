"""Without TensorFlow all runs that can, and the rest says what to install."""

import pytest

from rahf import extras
from tests.bin.train_test import ONE_TARGET, SMALL
from tests.support import forked

# As if the packages of the extra were not installed.
_WITHOUT = """
import importlib.machinery, sys

class Finder(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        absent = ("tensorflow", "tensorflow_datasets", "tensorflow_text", "seqio")
        if name.partition(".")[0] in absent:
            return None
        return super().find_spec(name, path, target)

place = sys.meta_path.index(importlib.machinery.PathFinder)
sys.meta_path[place] = Finder
"""
_IMPORTS = ("rahf.input.loader", "rahf.evaluation.split", "rahf.training.loop")
#: The step that tests/bin/train_test.py compiles for seqio's task, too.
_FEW_STEPS = ("--config.training_steps=2", *ONE_TARGET)


def _run(*calls):
    calls = [(f"rahf.bin.{module}", *flags) for module, *flags in calls]
    return forked.run_each(calls, _IMPORTS, first=_WITHOUT)


def _says(done, purpose):
    wanted = f'{purpose} needs .*: pip install "rahf\\[train\\]"'
    with pytest.raises(ValueError, match=wanted):
        raise ValueError(done.stderr)
    assert done.returncode and "Traceback" not in done.stderr


def test_training_evaluating_and_predicting_need_no_tensorflow(tmp_path):
    work, pictures = tmp_path / "w", tmp_path / "pictures"
    for done in _run(
        ("train", "--config=scenes_demo", f"--workdir={work}", *SMALL, *_FEW_STEPS),
        ("eval_scores", f"--checkpoint={work}", "--split=dev", "--examples=2"),
        ("export_scenes", f"--output={pictures}", "--examples=2", "--size=64"),
        ("predict", pictures, f"--checkpoint={work}", f"--output={tmp_path / 'p'}"),
    ):
        assert done.returncode == 0, done.stderr


def test_what_needs_it_says_so(tmp_path):
    work = f"--workdir={tmp_path / 'w'}"
    data = f"--config.input.consolidated.data_dir={tmp_path}"
    loader, layout = _run(
        ("train", "--config=scenes_demo", work, "--config.input.loader=seqio"),
        ("train", "--config=consolidated", work, data),
    )
    _says(loader, "the seqio loader")
    _says(layout, "a dataset in TFDS's layout")


def test_a_mistake_of_our_own_is_no_missing_package():
    with pytest.raises(ModuleNotFoundError) as found, extras.needing("train", "it"):
        import rahf.nothing  # noqa: F401  # type: ignore[import-not-found]
    assert not isinstance(found.value, extras.MissingExtraError)
