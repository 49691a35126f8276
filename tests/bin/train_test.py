"""rahf.bin.train as a user calls it: train, go on, mistakes in the flags."""

import os
import pathlib
import subprocess
import sys

import pytest

from rahf.checkpoints import checkpoint
from rahf.training.logs import read_metrics

ROOT = pathlib.Path(__file__).parents[2]
SMALL = (
    "--config.input.batch_size=4",
    "--config.model.vit.depth=1",
    "--config.model.t5.encoder_layers=1",
    "--config.eval.examples=4",
    "--config.eval.batch_size=4",
    "--config.log.every_steps=1",
)


def _run(binary, *args, config="configs/scenes_demo.py"):
    return subprocess.run(
        [sys.executable, "-m", f"rahf.bin.{binary}", f"--config={config}", *args],
        cwd=ROOT,
        env=os.environ | {"XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_trains_and_goes_on(tmp_path):
    flags = (f"--workdir={tmp_path}", *SMALL)
    first = _run("train", *flags, "--config.training_steps=2")
    assert first.returncode == 0, first.stderr
    assert "parameters on {'data': 1" in first.stderr
    assert checkpoint.complete_steps(tmp_path) == [2]
    second = _run("train", *flags, "--config.training_steps=3")
    assert second.returncode == 0, second.stderr
    assert "step 2 of 3" in second.stderr
    rows = read_metrics(tmp_path)
    assert [row["step"] for row in rows] == [1, 2, 3]
    assert "eval/plausibility/mse" in rows[-1]
    assert (tmp_path / checkpoint.VOCABULARY_FILE).stat().st_size > 1000


def test_trains_on_a_seqio_task(tmp_path):
    flags = ("--config.input.loader=seqio", "--config.training_steps=2")
    result = _run("train", f"--workdir={tmp_path}", *SMALL, *flags)
    assert result.returncode == 0, result.stderr
    assert [row["step"] for row in read_metrics(tmp_path)] == [1, 2]


@pytest.mark.parametrize("binary", ["train", "import_weights", "compile_step"])
def test_a_key_or_file_that_does_not_exist(binary, tmp_path):
    needed = {"train": "workdir", "import_weights": "output"}
    flags = [f"--{needed[binary]}={tmp_path}"] if binary in needed else []
    result = _run(binary, *flags, "--config.input.batch_sise=4")
    assert result.returncode == 1
    [line] = result.stderr.strip().splitlines()
    assert "batch_sise" in line and 'Did you mean "batch_size"' in line
    result = _run(binary, *flags, config="configs/scenes_demmo.py")
    assert result.returncode == 1
    [line] = result.stderr.strip().splitlines()
    assert line.startswith("error: --config cannot be read: ") and "demmo.py" in line


def test_mistakes_are_one_clear_line(tmp_path):
    for flag, message in (
        ("--config.task.name=scenes_mood", "scenes_multihead"),
        ("--config.model.variant=both", "config.model.variant='both'"),
        ("--config.model.dtype=bfloat17", "config.model.dtype='bfloat17'"),
        ("--config.input.vocabulary=/none.model", "cannot be read"),
        ("--config.eval.split=validation", "'validation'"),
        ("--config.log.every_steps=0", "config.log.every_steps=0"),
        ("--config.checkpoint.best_metric=plausibility/plc", "srcc"),
        ("--config.checkpoint.best_metric=plausibility/mse", "higher is better"),
        ("--config.checkpoint.best_metric=plausible/plcc", "plausibility"),
    ):
        result = _run("train", f"--workdir={tmp_path}", *SMALL, flag)
        assert result.returncode == 1, result.stderr
        last = result.stderr.strip().splitlines()[-1]
        assert last.startswith("error: ") and message in last, result.stderr
