"""Binaries as a user calls them, from one process that imports for all of them."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import NamedTuple

from tests.support.quick_xla import ONE_DEVICE

ROOT = pathlib.Path(__file__).parents[2]
_PROGRAM = """
import gc, importlib, json, os, runpy, sys
folder, first, imports, calls = json.load(sys.stdin)
exec(first, {})
for name in imports:
    importlib.import_module(name)
gc.freeze()  # else each child would copy all pages when it looks for garbage
for number, (module, *arguments) in enumerate(calls):
    if not (child := os.fork()):
        for stream, end in ((1, "out"), (2, "err")):
            os.dup2(os.open(f"{folder}/{number}.{end}", os.O_CREAT | os.O_RDWR), stream)
        sys.argv[1:] = arguments
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        sys.exit()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with open(f"{folder}/{number}.code", "w") as file:
        file.write(str(code))
"""


class Done(NamedTuple):
    """What a process left: its exit code and what it printed."""

    returncode: int
    stdout: str
    stderr: str


def run_each(
    calls: Sequence[Sequence], imports: Sequence[str] = (), *, first: str = ""
) -> list[Done]:
    """Runs `python -m module arguments`, each in a process of its own, one by one.

    Args:
      calls: the module and the arguments of each.
      imports: what all of them import anyway. Nothing that starts threads.
      first: code that runs before these imports.
    """
    calls = [[str(argument) for argument in call] for call in calls]
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [sys.executable, "-c", _PROGRAM],
            input=json.dumps([folder, first, list(imports), calls]),
            cwd=ROOT,
            env=os.environ | ONE_DEVICE,
            text=True,
            check=True,
        )
        read = lambda name: (pathlib.Path(folder) / name).read_text("utf-8")
        return [
            Done(int(read(f"{i}.code")), read(f"{i}.out"), read(f"{i}.err"))
            for i in range(len(calls))
        ]
