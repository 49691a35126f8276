"""launch/slurm.sbatch with an srun and a scontrol that write down how they are called.

tests/slurm/requeue.sh runs it in a real Slurm.
"""

import os
import pathlib
import re
import subprocess

import pytest
from absl import flags

from rahf.bin import train

ROOT = pathlib.Path(__file__).parents[2]
SCRIPT = ROOT / "launch" / "slurm.sbatch"
JOB = {"SLURM_JOB_ID": "7", "SLURM_CPUS_PER_TASK": "3"}
#: Arguments as a user may give them, one with a space.
ARGUMENTS = ("--config=configs/scenes.py", "--workdir=a run")
_FAKES = {
    "srun": 'printf "%s\\n" "$@" >srun.txt; env >env.txt; exit "$CODE"',
    "scontrol": 'echo "$@" >scontrol.txt',
    "nvidia-smi": "printf '9.0\\n9.0\\n'",
}


@pytest.fixture
def run(tmp_path):
    for name, text in _FAKES.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)

    def run(*arguments, **environment):
        keep = {"HOME": str(tmp_path), "PATH": f"{tmp_path}:{os.environ['PATH']}"}
        return subprocess.run(
            ["bash", str(SCRIPT), *arguments],
            cwd=tmp_path,
            env=keep | {"RAHF_TRAIN": "env train", "CODE": "0"} | environment,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.mark.parametrize(
    ("code", "restarts", "again"),
    [
        (0, 0, False),
        (1, 0, False),
        (134, 0, False),
        (75, 0, True),
        (75, 99, True),
        (76, 9, True),
        (76, 10, False),
        (137, 0, True),
        (137, 10, False),
    ],
)
def test_a_run_that_was_stopped_or_lost_a_task_is_requeued(
    run, tmp_path, code, restarts, again
):
    done = run(*ARGUMENTS, **JOB, CODE=str(code), SLURM_RESTART_COUNT=str(restarts))
    assert done.returncode == code, done.stderr
    assert f"training exited with {code}" in done.stdout
    requeued = tmp_path / "scontrol.txt"
    assert requeued.exists() == again
    if again:
        assert requeued.read_text() == "requeue 7\n"


def test_each_task_gets_the_command_and_the_environment(run, tmp_path):
    assert run(*ARGUMENTS, **JOB).returncode == 0
    called = (tmp_path / "srun.txt").read_text().splitlines()
    assert called[called.index("env") :] == [
        "env",
        "train",
        "--distributed",
        *ARGUMENTS,
    ]
    assert "--kill-on-bad-exit=0" in called, "a task that exits with 75 ends the others"
    environment = (tmp_path / "env.txt").read_text().splitlines()
    hiding = "--xla_gpu_enable_latency_hiding_scheduler=true"
    expected = {
        f"XLA_FLAGS={hiding}",
        "XLA_PYTHON_CLIENT_MEM_FRACTION=0.9",
        "CUDA_DEVICE_MAX_CONNECTIONS=1",
        "SRUN_CPUS_PER_TASK=3",
    }
    assert expected <= set(environment)
    run(**JOB, XLA_FLAGS="--xla_a=1", XLA_PYTHON_CLIENT_MEM_FRACTION="0.5")
    environment = (tmp_path / "env.txt").read_text().splitlines()
    assert f"XLA_FLAGS=--xla_a=1 {hiding}" in environment
    assert "XLA_PYTHON_CLIENT_MEM_FRACTION=0.5" in environment
    run(**JOB, JAX_PLATFORMS="cpu")
    assert "XLA_FLAGS" not in (tmp_path / "env.txt").read_text()


def test_a_dry_run_prints_what_it_would_run(run, tmp_path):
    done = run("--dry_run", *ARGUMENTS)
    assert done.returncode == 0, done.stderr
    *environment, command = done.stdout.splitlines()
    assert "XLA_PYTHON_CLIENT_MEM_FRACTION=0.9" in environment
    assert command.startswith("srun ")
    end = r"env train --distributed --config=configs/scenes.py --workdir=a\ run"
    assert command.strip().endswith(end)
    assert not (tmp_path / "srun.txt").exists()


def test_mistakes_are_one_line(run, tmp_path):
    done = run(*ARGUMENTS)
    assert done.returncode == 1 and "not in a Slurm job" in done.stderr
    done = run(*ARGUMENTS, **JOB, RAHF_TRAIN="")
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert ".venv/bin/python is not there" in done.stderr
    assert not (tmp_path / "srun.txt").exists()


def test_slurm_reads_every_option():
    """sbatch stops reading options at the first command."""
    text = SCRIPT.read_text("utf-8")
    head, _, commands = text.partition("\nset -euo pipefail\n")
    assert "#SBATCH" not in commands
    assert all(not line or line.startswith("#") for line in head.splitlines())
    options = {line.split()[1] for line in head.splitlines() if "#SBATCH --" in line}
    # Those on which the way of a requeued job depends.
    assert {"--requeue", "--open-mode=append", "--signal=SIGTERM@300"} <= options


def test_documented_commands_name_flags_and_configs_that_are():
    known = {flag.name for flag in flags.FLAGS.get_key_flags_for_module(train)}
    text = SCRIPT.read_text("utf-8") + (ROOT / "docs" / "scale.md").read_text("utf-8")
    commands = re.findall(r"launch/slurm\.sbatch (--[^`\n#]*)", text)
    assert len(commands) > 5
    for command in commands:
        for name, value in re.findall(r"--(\w+)=?(\S*)", command):
            assert name in known | {"dry_run"}, command
            is_named = name == "config" and value != "..."
            assert not is_named or (ROOT / value).is_file(), command
