"""Every script for the shell passes shellcheck."""

import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]
_PLACES = ("launch/*.sh", "launch/*.sbatch", "tests/*.sh", "tests/slurm/*.sh")


def test_scripts_are_clean():
    scripts = [str(path) for place in _PLACES for path in ROOT.glob(place)]
    assert len(scripts) > 5
    shellcheck = pathlib.Path(sys.executable).with_name("shellcheck")
    done = subprocess.run(
        [shellcheck, *scripts], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
