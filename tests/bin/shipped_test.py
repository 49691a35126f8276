"""Shipped configs by name, and the help of the binaries that take one."""

import pathlib
import subprocess
import sys

import pytest

from rahf.bin import benchmark_input, cross_validate, shipped
from tests.configs_test import CONFIGS

ROOT = pathlib.Path(__file__).parents[2]


def test_every_config_is_listed_with_a_line():
    assert list(shipped.shipped()) == CONFIGS
    lines = shipped.listing().splitlines()
    assert [line.split()[0] for line in lines] == CONFIGS
    assert all(len(line.split()) > 5 for line in lines)


def test_a_name_is_a_path(tmp_path):
    path = str(ROOT / "configs" / "rated_images.py")
    assert (
        shipped.resolve("rated_images:mos:1-5->overall") == f"{path}:mos:1-5->overall"
    )
    assert shipped.resolve(path) == path
    arguments = ["train", "--config", "rated_images", "--workdir=W", "--", "--config=x"]
    assert shipped.resolve_arguments(arguments) == [
        *arguments[:2],
        path,
        *arguments[3:],
    ]
    own = tmp_path / "mine.py"
    own.write_text("def get_config():\n    return {'a': {'b': 1}, 'c': 2}\n")
    assert shipped.keys(shipped.load(str(own))) == {"a.b": 1, "c": 2}
    for wrong in ("scenes_dmo", f"{tmp_path}/scenes_dmo.py"):
        with pytest.raises(
            ValueError, match=r"did you mean 'scenes_demo'\? Shipped: .*cons"
        ):
            shipped.resolve(wrong)


@pytest.mark.parametrize("binary", [benchmark_input, cross_validate])
def test_help_of_the_others(binary, capsys):
    with pytest.raises(SystemExit) as stop:
        binary.main(["--help"])
    assert not stop.value.code
    assert shipped.listing() in capsys.readouterr().out


@pytest.mark.parametrize("binary", ["train", "import_weights", "plan"])
def test_help(binary):
    done = subprocess.run(
        [sys.executable, "-m", f"rahf.bin.{binary}", "--config=scenes_demo", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert shipped.listing() in done.stdout
    assert "--config.input.scenes.difficulty='simple'" in done.stdout
    assert f"python -m rahf.bin.{binary}" in done.stdout
