"""rahf.bin.train as a user calls it: train, go on, mistakes in the flags."""

import os
import pathlib
import subprocess
import sys

from rahf.checkpoints import restore
from rahf.checkpoints import workdir as workdirs
from rahf.checkpoints.metrics_log import read_metrics
from tests.support import forked
from tests.support.quick_xla import ONE_DEVICE

ROOT = pathlib.Path(__file__).parents[2]
SMALL = (
    "--config.input.batch_size=4",
    "--config.model.vit.depth=1",
    "--config.model.t5.encoder_layers=1",
    "--config.eval.examples=4",
    "--config.eval.batch_size=4",
    "--config.log.every_steps=1",
)
#: Where the other heads would show nothing more.
ONE_TARGET = (
    "--config.task.name=scenes_plausibility",
    "--config.task.targets=('plausibility',)",
)


def _train(*args):
    return subprocess.run(
        [sys.executable, "-m", "rahf.bin.train", "--config=configs/scenes_demo.py"]
        + list(args),
        cwd=ROOT,
        env=os.environ | ONE_DEVICE,
        capture_output=True,
        text=True,
        check=False,
    )


def test_trains_and_goes_on(tmp_path):
    flags = (f"--workdir={tmp_path}", *SMALL)
    first = _train(*flags, "--config.training_steps=2")
    assert first.returncode == 0, first.stderr
    assert "parameters on {'data': 1" in first.stderr
    assert restore.complete_steps(tmp_path) == [2]
    assert "at least 20 different training images, got 8" in first.stdout
    second = _train(*flags, "--config.training_steps=5")
    assert second.returncode == 0, second.stderr
    assert "step 2 of 5" in second.stderr
    assert "image_features_5.npz: features of 20 training images" in second.stdout
    rows = read_metrics(tmp_path)
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5]
    assert "eval/plausibility/mse" in rows[-1]
    assert "step 5, dev split, 4 images" in second.stderr  # the table's head
    assert (tmp_path / workdirs.VOCABULARY_FILE).stat().st_size > 1000


def test_trains_on_a_seqio_task(tmp_path):
    flags = ("--config.input.loader=seqio", "--config.training_steps=2")
    flags += ONE_TARGET
    result = _train(f"--workdir={tmp_path}", *SMALL, *flags)
    assert result.returncode == 0, result.stderr
    assert [row["step"] for row in read_metrics(tmp_path)] == [1, 2]


def test_a_key_or_file_that_does_not_exist(tmp_path):
    """Of each binary with a config: one line of error."""
    (own := tmp_path / "own.py").write_text("def get_config():\n    return colour\n")
    needed = {"train": "workdir", "import_weights": "output", "plan": "topology"}
    calls, expected = [], []
    for binary, flag in needed.items():
        given = [f"--{flag}={tmp_path}"] if flag else []
        demo = "--config=configs/scenes_demo.py"
        mistakes = [
            ([demo, "--config.input.batch_sise=4"], 'Did you mean "batch_size"'),
            (["--config=configs/scenes_demmo.py"], "demmo.py"),
            (
                ["--config=scenes_demo:richhf"],
                "'richhf' is unknown; this config takes no argument",
            ),
            (
                [f"--config={own}"],
                f"{own}, line 2: NameError: name 'colour' is not defined",
            ),
        ]
        calls += [[f"rahf.bin.{binary}", *given, *flags] for flags, _ in mistakes]
        expected += [message for _, message in mistakes]
        if flag:
            calls.append([f"rahf.bin.{binary}", demo])
            expected.append(f"error: missing flags: --{flag}")
        calls.append([f"rahf.bin.{binary}", *given, "--config.seed=1"])
        expected.append("error: missing flags: --config")
    found = forked.run_each(calls, ["rahf.bin.config_flag"])
    for call, done, message in zip(calls, found, expected, strict=True):
        assert done.returncode == 1, call
        [line] = done.stderr.strip().splitlines()
        assert line.startswith("error: ") and message in line, call
        assert line == message or "missing flags" not in message, call
        assert "batch_sise" in line or "batch_sise" not in call[-1], call
        assert "--config cannot be read: " in line or "demmo" not in message, call


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
    shared = ["rahf.bin.train", "--config=configs/scenes_demo.py"]
    shared += [f"--workdir={tmp_path}", *SMALL]
    found = forked.run_each(
        [[*shared, flag] for flag, _ in mistakes],
        ["rahf.input.loader", "rahf.evaluation.split", "rahf.training.loop"],
    )
    for done, (_, message) in zip(found, mistakes, strict=True):
        assert done.returncode == 1, done.stderr
        last = done.stderr.splitlines()[-1]
        assert last.startswith("error: ") and message in last, done.stderr
