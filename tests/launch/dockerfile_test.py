"""launch/Dockerfile: its linter, and what it copies, installs and runs."""

import pathlib
import re
import subprocess
import sysconfig

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "launch" / "Dockerfile"


def _instructions():
    """(name, rest) of each instruction, continued lines joined."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text("utf-8"), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [tuple(line.split(" ", 1)) for line in lines if line]


def _all(name):
    return [rest for each, rest in _instructions() if each == name]


def test_the_linter_finds_nothing():
    program = pathlib.Path(sysconfig.get_path("scripts")) / "hadolint"
    done = subprocess.run(
        [program, DOCKERFILE], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    bad = "FROM debian\nRUN cd /tmp\n"
    done = subprocess.run(
        [program, "-"], input=bad, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1


def _kept(path: str) -> bool:
    """Whether .dockerignore lets a path of the repository through."""
    kept = True
    for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines():
        pattern = line.removeprefix("!")
        match = pattern in ("*", path, path.split("/")[0])
        match = match or (pattern.startswith("**/") and pattern[3:] in path.split("/"))
        if match and not line.startswith("#"):
            kept = line.startswith("!")
    return kept


def test_only_what_is_copied_is_sent_to_docker():
    copied = [
        source
        for rest in _all("COPY")
        if not rest.startswith("--from")
        for source in rest.split()[:-1]
    ]
    assert set(copied) >= {"setup.py", "pyproject.toml", "rahf", "configs", "tasks"}
    for source in copied:
        assert (ROOT / source).exists()
        assert _kept(source), source
    for name in (".git", ".venv", "runs", "tests/x.py", "rahf/bin/__pycache__/x.pyc"):
        assert not _kept(name), name


def _install(accelerator, tmp_path):
    """The pip command of the first RUN, as words, for an accelerator."""
    script = _all("RUN")[0].replace("/opt/rahf", str(tmp_path))
    script = script.replace("python -m venv", "true")
    script = script.replace(f"{tmp_path}/bin/pip", "printf '%s\\n'")
    return subprocess.run(
        ["sh", "-c", script],
        env={"ACCELERATOR": accelerator},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("accelerator", "wanted"),
    [("cpu", ".[train]"), ("gpu", ".[gpu,train]"), ("tpu", ".[tpu,train]")],
)
def test_an_accelerator_is_an_extra_of_setup(accelerator, wanted, tmp_path):
    done = _install(accelerator, tmp_path)
    assert done.stdout.splitlines()[-1] == wanted
    assert "--no-cache-dir" in done.stdout
    if accelerator != "cpu":
        assert f'        "{accelerator}": ["jax[' in (ROOT / "setup.py").read_text(
            "utf-8"
        )


def test_another_accelerator_is_refused(tmp_path):
    done = _install("cuda", tmp_path)
    assert done.returncode == 1
    assert done.stderr == "ACCELERATOR=cuda: expected cpu, gpu or tpu\n"


def test_the_image_is_small_and_belongs_to_no_root():
    stages = _all("FROM")
    assert [stage.endswith(" AS build") for stage in stages] == [True, False]
    assert _all("USER")[-1] == "1000:1000"
    last = [rest for name, rest in _instructions() if name in ("RUN", "COPY")][-2:]
    assert last[0].startswith("apt-get update")
    assert "rm -rf /var/lib/apt/lists/*" in last[0]
    assert last[1] == "--from=build /opt/rahf /opt/rahf"
    requirements, package = [run for run in _all("RUN") if "pip install" in run]
    assert "--no-cache-dir" in requirements
    assert {"--no-cache-dir", "--no-deps"} <= set(package.split())


def test_signals_reach_python():
    assert _all("ENTRYPOINT") == ['["tini", "--", "python", "-m"]']
    assert _all("CMD") == ['["rahf.bin.train", "--help"]']
