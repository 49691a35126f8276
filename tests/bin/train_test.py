"""rahf.bin.train as a user calls it: train, go on, mistakes in the flags."""

import os
import pathlib
import subprocess
import sys

import pytest

from rahf.checkpoints import restore
from rahf.checkpoints import workdir as workdirs
from rahf.checkpoints.metrics_log import read_metrics

ROOT = pathlib.Path(__file__).parents[2]
#: One device, and compiled quickly.
QUICK = {"XLA_FLAGS": "--xla_backend_optimization_level=0"}
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
        [sys.executable, "-m", f"rahf.bin.{binary}"]
        + ([f"--config={config}"] if config else [])
        + list(args),
        cwd=ROOT,
        env=os.environ | QUICK,
        capture_output=True,
        text=True,
        check=False,
    )


def test_trains_and_goes_on(tmp_path):
    flags = (f"--workdir={tmp_path}", *SMALL)
    first = _run("train", *flags, "--config.training_steps=2")
    assert first.returncode == 0, first.stderr
    assert "parameters on {'data': 1" in first.stderr
    assert restore.complete_steps(tmp_path) == [2]
    second = _run("train", *flags, "--config.training_steps=3")
    assert second.returncode == 0, second.stderr
    assert "step 2 of 3" in second.stderr
    rows = read_metrics(tmp_path)
    assert [row["step"] for row in rows] == [1, 2, 3]
    assert "eval/plausibility/mse" in rows[-1]
    assert (tmp_path / workdirs.VOCABULARY_FILE).stat().st_size > 1000


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
    result = _run(binary, *flags, config="scenes_demo:richhf")
    [line] = result.stderr.strip().splitlines()
    assert "'richhf' is unknown; this config takes no argument" in line
    (own := tmp_path / "own.py").write_text("def get_config():\n    return colour\n")
    result = _run(binary, *flags, config=own)
    [line] = result.stderr.strip().splitlines()
    assert f"{own}, line 2: NameError: name 'colour' is not defined" in line
    if binary in needed:
        result = _run(binary)
        assert result.returncode == 1
        assert result.stderr == f"error: missing flags: --{needed[binary]}\n"
    result = _run(binary, "--config.seed=1", config="")
    assert result.stderr == "error: missing flags: --config\n"


_END = "-- the end --"
#: Imports once, then calls the binary as a process of its own for each last argument.
_EACH = f"""
import os, runpy, sys
import rahf.input.loader, rahf.evaluation.split, rahf.training.loop
shared, each = sys.argv[1:{3 + len(SMALL)}], sys.argv[{3 + len(SMALL)}:]
for flag in each:
    if not (child := os.fork()):
        sys.argv[1:] = [*shared, flag]
        runpy.run_module("rahf.bin.train", run_name="__main__", alter_sys=True)
        sys.exit()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(f"\\nexited with {{code}}\\n{_END}", file=sys.stderr, flush=True)
"""


def test_mistakes_are_one_clear_line(tmp_path):
    mistakes = (
        (
            "--config.training_steps=x",
            "training_steps=x: expected int, as in --config.",
        ),
        ("--config.task.name=scenes_mood", "scenes_multihead"),
        ("--config.model.variant=both", "config.model.variant='both'"),
        ("--config.model.dtype=bfloat17", "config.model.dtype='bfloat17'"),
        ("--config.input.vocabulary=/none.model", "cannot be read"),
        ("--config.eval.split=validation", "'validation'"),
        ("--config.log.every_steps=0", "config.log.every_steps=0"),
        ("--config.training_steps=0", "training_steps=0: expected at least 1"),
        ("--config.seed=2147483648", "config.seed=2147483648: expected a number"),
        ("--workdir=", "expected the path of a workdir, got ''"),
        ("--workdir=setup.py", "setup.py is a file"),
        ("extra", "unexpected arguments ['extra']"),
        ("--distributed", "found no variables of srun"),
        ("--process_id=1", "--coordinator_address and --num_processes missing"),
        ("--local_device_ids=0-3", "=0-3: expected different numbers"),
        ("--config.checkpoint.best_metric=plausibility/plc", "srcc"),
        ("--config.checkpoint.best_metric=plausibility/mse", "higher is better"),
        ("--config.checkpoint.best_metric=plausible/plcc", "plausibility"),
    )
    done = subprocess.run(
        [sys.executable, "-c", _EACH, "--config=configs/scenes_demo.py"]
        + [f"--workdir={tmp_path}", *SMALL]
        + [flag for flag, _ in mistakes],
        cwd=ROOT,
        env=os.environ | QUICK,
        capture_output=True,
        text=True,
        check=True,
    )
    errors = done.stderr.split(_END)
    assert len(errors) == len(mistakes) + 1
    for error, (_, message) in zip(errors, mistakes, strict=False):
        *_, last, status = filter(None, error.splitlines())
        assert status == "exited with 1", error
        assert last.startswith("error: ") and message in last, error
