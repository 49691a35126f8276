"""rahf.bin.improve as a user calls it: trains, judges, writes its page; and mistakes."""

import json
import os
import pathlib
import subprocess
import sys

from rahf.checkpoints.restore import complete_steps
from tests.improvement.cycle_test import _models  # noqa: F401  a fixture
from tests.support.quick_xla import ONE_DEVICE

ROOT = pathlib.Path(__file__).parents[2]


def _improve(models, workdir, *flags):
    return subprocess.run(
        [
            *(sys.executable, "-m", "rahf.bin.improve"),
            "--config=tests/support/tiny_muse.py",
            f"--generator={models / 'muse'}",
            f"--rewards={models / 'rewards'}",
            f"--judge={models / 'judge'}",
            f"--workdir={workdir}",
            *("--prompts=train:3", "--held_out=test:2", "--samples=2"),
            *("--judged_samples=2", "--rounds=1", "--mended=0"),
            *flags,
        ],
        cwd=ROOT,
        env=os.environ | ONE_DEVICE,
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_closes_the_loop(models, tmp_path):
    done = _improve(models, tmp_path / "W", "--arms=weighted", "--threshold=auto:1")
    assert done.returncode == 0, done.stderr
    assert "== 8 of 8: judge them, weighted/2" in done.stdout
    assert "plausibility, against the generator as it was" in done.stdout
    assert complete_steps(tmp_path / "W" / "weighted" / "run") == [2]
    results = json.loads((tmp_path / "W" / "results.json").read_text("utf-8"))
    [row] = results["against_base"]
    assert row["scores"]["alignment"]["prompts"] == 2
    assert "token_entropy" in row["statistics"]
    assert (tmp_path / "W" / "report.html").is_file()


def test_a_mistake_takes_one_line(models, tmp_path):
    done = _improve(models, tmp_path / "W", "--held_out=gone.txt")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: gone.txt: no such file")
    assert not (tmp_path / "W").exists()
