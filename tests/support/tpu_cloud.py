"""A folder that stands for a cloud, and launch/tpu_vm.sh run against it."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

from tests.support import fake_gcloud

ROOT = pathlib.Path(__file__).resolve().parents[2]
#: Stands for the interpreter: counts pip's calls, makes environments, runs modules.
PYTHON = """#!/bin/sh
case "$1 $2" in
  "-c import pip") [ -e "$0-has-pip" ] ;;
  "-m venv") mkdir -p .venv/bin; cp "$0" .venv/bin/python; : >.venv/bin/python-has-pip ;;
  "-m pip") echo "$*" >>"$HOME/pip" ;;
  "-m rahf"*) exec "{python}" "$@" ;;
  --version*) echo Python 3.12 ;;
esac
"""
#: Stands for training: writes down what it was called with; ends as it is told to.
MODULE = """
import json, os, pathlib, signal, sys, time
cloud, host = pathlib.Path(os.environ["FAKE_CLOUD"]), os.environ["HOME"][-5:]
codes = json.loads((cloud / f"{host}.codes").read_text())
code = codes.pop(0) if len(codes) > 1 else codes[0]
(cloud / f"{host}.codes").write_text(json.dumps(codes))
assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL  # the supervisor ignores it
signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
print("the log of", host, flush=True)
with (cloud / "runs.jsonl").open("a") as file:
    file.write(json.dumps([host, sys.argv[1:], os.environ.get("FLAGS")]) + "\\n")
while code == "waits":
    time.sleep(.02)
sys.exit(code)
"""


class Cloud:
    """A folder with a fake gcloud, a small tree to copy, and the slice's hosts."""

    def __init__(self, folder: pathlib.Path):
        self.folder, self.tree = folder, folder / "tree"
        (folder / "bin").mkdir()
        self.program("python3.11", PYTHON.replace("{python}", sys.executable))
        # Not for the hosts: it is found on the PATH of tpu_vm.sh alone.
        (folder / "here").mkdir()
        self.program(
            "../here/gcloud",
            f'#!/bin/sh\nexec {sys.executable} {fake_gcloud.__file__} "$@"\n',
        )
        (self.tree / "rahf" / "bin").mkdir(parents=True)
        (self.tree / "rahf" / "bin" / "train.py").write_text(MODULE)
        shutil.copytree(ROOT / "launch", self.tree / "launch")
        for name in ("setup.py", "pyproject.toml"):
            shutil.copy(ROOT / name, self.tree)
        for name in (".venv/bin", "runs/old", ".git"):
            (self.tree / name).mkdir(parents=True)
        self.expect()
        self.ends(0, 0)

    def program(self, name, text):
        path = self.folder / "bin" / name
        path.write_text(text)
        path.chmod(0o755)

    def expect(self, **world):
        old = json.loads(self._read("world.json") or "{}")
        world = {"states": ["ACTIVE"]} | old | world
        (self.folder / "world.json").write_text(json.dumps(world))

    def ends(self, *codes):
        """What the module exits with: on each host, or a list for run after run."""
        for host, code in enumerate(codes):
            each = code if isinstance(code, list) else [code]
            (self.folder / f"host{host}.codes").write_text(json.dumps(each))

    def command(self, *arguments):
        return ["bash", self.tree / "launch" / "tpu_vm.sh", "--poll=0", *arguments]

    def environment(self):
        return {
            "PATH": f"{self.folder / 'here'}:{os.environ['PATH']}",
            "HOME": "/nowhere",
            "FAKE_CLOUD": str(self.folder),
            "ZONE": "us-east5-b",
            "NAME": "mine",
            "TYPE": "v6e-8",
            "PATIENCE": "100000",  # looks follow each other at once here
        }

    def __call__(self, *arguments, answer=""):
        return subprocess.run(
            self.command(*arguments),
            input=answer,
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=300,  # for a babysitter that would never end
        )

    def prepared(self):
        for verb in ("create", "copy", "install"):
            done = self(verb)
            assert done.returncode == 0, done.stderr
        return self

    def _read(self, name):
        path = self.folder / name
        return path.read_text() if path.exists() else ""

    def calls(self):
        return [json.loads(line) for line in self._read("calls.jsonl").splitlines()]

    def verbs(self):
        """The calls in short, looks left out: create, ssh unpack, scp, delete."""
        found = []
        for call in self.calls():
            told = [a for a in call if a.startswith("--command=")]
            word = told[0].split()[2] if told else ""
            found.append(f"{call[3]} {word}".strip())
        return [v for v in found if v not in ("describe", "ssh -e")]  # looks

    def runs(self):
        return [json.loads(line) for line in self._read("runs.jsonl").splitlines()]

    def until_run(self, number=2):
        """Waits for so many runs of the module; it is then ready for SIGTERM."""
        while len(self.runs()) < number:
            time.sleep(0.02)

    def states(self):
        """(STATE, CODE) of each host, as its own `status` says."""
        lines = [line.split() for line in self("status").stdout.splitlines()]
        return [tuple(line[2:4]) for line in lines if line[:1] == ["rahf-worker"]]

    def until(self, *wanted):
        for _ in range(200):
            if self.states() == list(wanted):
                return
            time.sleep(0.05)
        raise AssertionError(f"expected {wanted}, got {self.states()}")
