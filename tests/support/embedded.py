"""The Python programs within a launch script, run in this process."""

import pathlib
import re
import runpy
import sys
from collections.abc import Callable

import pytest

_ROOT = pathlib.Path(__file__).parents[2]
_PROGRAM = re.compile(r"<<'END'.*?\n(.*?)^END$", re.DOTALL | re.MULTILINE)


def programs_of(
    script: str, folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., None]:
    """Returns run(index, *arguments), which runs one of a script's programs.

    Args:
      script: its path in the repository.
      folder: where the programs are written to be run.
      monkeypatch: sets their arguments.
    """
    programs = _PROGRAM.findall((_ROOT / script).read_text("utf-8"))

    def run(index: int, *arguments: object) -> None:
        path = folder / f"part{index}.py"
        path.write_text(programs[index])
        monkeypatch.setattr(sys, "argv", [str(path), *map(str, arguments)])
        runpy.run_path(str(path))

    return run
