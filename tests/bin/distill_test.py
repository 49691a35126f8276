"""rahf.bin.distill as a user calls it: ask, train, go on, measure, and mistakes."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from rahf.bin import eval_keywords, eval_scores
from rahf.checkpoints import restore
from rahf.checkpoints import workdir as workdirs
from rahf.checkpoints.metrics_log import read_metrics
from tests.support import forked, tiny
from tests.support.quick_xla import ONE_DEVICE

ROOT = pathlib.Path(__file__).parents[2]
CONFIG = "tests/support/tiny_scenes.py"


def _distill(*args):
    return subprocess.run(
        [sys.executable, "-m", "rahf.bin.distill", *args],
        cwd=ROOT,
        env=os.environ | ONE_DEVICE,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    config = tiny.config()
    config.input.image_size = 64
    return tiny.write_workdir(tmp_path_factory.mktemp("T"), config)


def test_asks_and_trains_and_goes_on(teacher, tmp_path):
    student = tmp_path / "W"
    flags = (
        f"--config={CONFIG}",
        f"--teacher={teacher}",
        f"--workdir={student}",
        "--config.input.scenes.train_examples=20",
        "--config.model.t5.embed_dim=32",
    )
    first = _distill(*flags, "--config.training_steps=2")
    assert first.returncode == 0, first.stderr
    assert f"W/teacher: 20 pictures with what {teacher}, step 1, says" in first.stdout
    second = _distill(*flags, "--config.training_steps=3")
    assert second.returncode == 0, second.stderr
    assert "step 2 of 3" in second.stderr
    rows = read_metrics(student)
    assert [row["step"] for row in rows] == [1, 2, 3]
    assert "train/loss/soft_words" in rows[-1]
    assert {"eval/plausibility/mse", "eval/misaligned_words/n"} <= set(rows[-1])
    config = workdirs.read_config(student)
    digest = json.loads((student / "teacher" / "teacher.json").read_text())
    assert config.input.distilled.teacher.digest == digest["teacher"]["digest"]
    assert restore.complete_steps(student) == [2, 3]
    # Measured on the labels of the config's own task, or on others that are named.
    eval_scores.main([f"--checkpoint={student}", "--examples=4"])
    found = json.loads((student / "eval" / "test" / "scores.json").read_text())
    assert found["metrics"]["overall"]["n"] == 4
    against = ["--set=task.name=distilled_multihead", f"--output={tmp_path}"]
    against += ["--set=input.distilled.dev_share=0.5", "--split=dev"]
    eval_keywords.main([f"--checkpoint={student}", *against])
    assert json.loads((tmp_path / "keywords.json").read_text())["metrics"]


def test_mistakes_are_told_in_one_line(tmp_path):
    mistakes = (
        ((), "missing flags: --teacher"),
        (("--teacher=W", "--prompt=x"), "--prompt is for --images"),
        (("--teacher=W", "--teacher_step=last"), "expected a step, latest or best"),
        (("--teacher=W", "--images=gone.png"), "gone.png"),
    )
    shared = ("rahf.bin.distill", f"--config={CONFIG}", f"--workdir={tmp_path}")
    calls = [[*shared, *flags] for flags, _ in mistakes]
    imports = ["rahf.inference.teaching", "rahf.input.distillation"]
    for done, (flags, error) in zip(
        forked.run_each(calls, imports), mistakes, strict=True
    ):
        assert done.returncode == 1, flags
        [line] = done.stderr.strip().splitlines()[-1:]
        assert line.startswith("error: ") and error in line, flags
