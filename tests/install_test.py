"""The installer's choice of interpreter, and its stamp."""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]


def _bash(command, path, **variables):
    return subprocess.run(  # noqa: PLW1510  a failure is what some tests look for
        ["bash", "-c", f"source launch/install.sh; {command}"],
        cwd=ROOT,
        env={"PATH": str(path), "HOME": "/nowhere", **variables},
        capture_output=True,
        text=True,
    )


def _program(path: pathlib.Path, text: str):
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_a_shim_that_does_not_run_is_passed_over(tmp_path):
    _program(tmp_path / "python3.11", "echo no such version >&2; exit 127")
    _program(tmp_path / "python3.12", f'exec "{sys.executable}" "$@"')
    done = _bash("find_python", f"{tmp_path}:{os.environ['PATH']}")
    assert done.stdout.strip() == "python3.12"


def test_without_a_python_the_error_says_what_to_do(tmp_path):
    for name in ("python3.11", "python3"):
        _program(tmp_path / name, "exit 1")
    (tmp_path / "bash").symlink_to(shutil.which("bash"))
    done = _bash("find_python", tmp_path)
    assert done.returncode == 1
    assert "Python 3.11 or 3.12" in done.stderr
    assert "PYTHON=/path/to/python3.11" in done.stderr
    # A named interpreter is taken or refused, never replaced by another.
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = _bash("find_python", path, PYTHON=str(tmp_path / "python3"))
    assert done.returncode == 1
    assert _bash("find_python", path, PYTHON=sys.executable).stdout.strip() == (
        sys.executable
    )


def test_installs_once_until_the_requirements_change(tmp_path):
    for name in ("setup.py", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    # Stands for the interpreter: counts the calls of pip.
    _program(tmp_path / ".venv" / "bin" / "python", 'echo "$*" >>calls')
    script = f"cd {tmp_path}; install_rahf && install_rahf && cat calls"

    def installs():
        done = _bash(script, os.environ["PATH"])
        return done.stdout.count("pip install")

    assert installs() == 1
    assert installs() == 1
    with (tmp_path / "setup.py").open("a") as file:
        file.write("# more\n")
    assert installs() == 2


@pytest.mark.parametrize(
    "script",
    [
        "launch/local.sh",
        "launch/annotate.sh",
        "launch/learn.sh",
        "launch/label_next.sh",
        "launch/install.sh",
        "tests/run.sh",
        ".ci/run",
    ],
)
def test_scripts_parse(script):
    subprocess.run(["bash", "-n", ROOT / script], check=True)
