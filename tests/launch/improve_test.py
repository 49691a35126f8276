"""launch/improve.sh without a model says what to do; what it runs has its own tests."""

import os
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).parents[2]


def test_without_a_model_it_says_what_to_do(tmp_path):
    done = subprocess.run(
        ["bash", "launch/improve.sh"],
        cwd=ROOT,
        env=os.environ | {"REWARDS": str(tmp_path / "none")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "none has no checkpoint of a model that predicts feedback" in done.stderr
    assert not done.stdout
