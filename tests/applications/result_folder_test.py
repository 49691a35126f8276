"""A folder of results is complete or does not exist."""

import os
import signal
import subprocess
import sys

import pytest

from rahf import durable
from rahf.applications import result_folder

_REQUEST = {"command": "x", "number": 0.1, "names": ("a", "b")}


def _make(output, request=_REQUEST, plan="", text="whole"):
    with result_folder.making(output, request, plan) as folder:
        durable.write_text(folder / "result", text)


def test_it_appears_when_it_is_complete(tmp_path):
    output = tmp_path / "new" / "out"
    with result_folder.making(output, _REQUEST) as folder:
        (folder / "result").write_text("whole")
        assert not output.exists()
    assert sorted(os.listdir(output)) == ["request.json", "result"]
    assert os.listdir(tmp_path / "new") == ["out"]
    assert result_folder.is_complete(output, _REQUEST)


def test_an_empty_folder_is_used(tmp_path):
    output = tmp_path / "out"
    output.mkdir()
    _make(output)
    assert (output / "result").read_text() == "whole"


@pytest.mark.parametrize("change", [{"number": 0.2}, {"more": None}])
def test_results_of_another_request_are_not_replaced(tmp_path, change):
    _make(tmp_path / "out")
    for call in (result_folder.is_complete, _make):
        with pytest.raises(ValueError, match="results of other predictions or flags"):
            call(tmp_path / "out", _REQUEST | change)
    assert (tmp_path / "out" / "result").read_text() == "whole"


def test_a_folder_of_something_else(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(ValueError, match=r"something else \(thesis.tex\)"):
        _make(tmp_path)
    with pytest.raises(ValueError, match="is a file; choose another folder"):
        _make(tmp_path / "thesis.tex")
    with pytest.raises(ValueError, match="URLs are not supported"):
        _make("gs://bucket/x")


def _interrupted(output, **fields):
    with pytest.raises(KeyError), result_folder.making(output, **fields) as folder:
        durable.write_text(folder / "one", "done")
        (folder / "sub").mkdir()
        (folder / "sub" / ".two.x").write_text("half")
        raise KeyError


def test_the_same_request_continues(tmp_path):
    output = tmp_path / "out"
    _interrupted(output, request=_REQUEST, plan="p")
    assert not output.exists()
    with result_folder.making(output, _REQUEST, "p") as folder:
        assert (folder / "one").read_text() == "done"
        assert not os.listdir(folder / "sub")  # half a file would stay forever
    assert sorted(os.listdir(output)) == ["one", "request.json", "sub"]


@pytest.mark.parametrize(
    "other", [{"request": {"command": "y"}}, {"request": _REQUEST, "plan": "q"}]
)
def test_another_request_begins_anew(tmp_path, other):
    output = tmp_path / "out"
    _interrupted(output, request=_REQUEST, plan="p")
    with result_folder.making(output, **other):
        pass
    assert os.listdir(output) == ["request.json"]


_KILLED = """
import os, signal, sys
from rahf import durable
from rahf.applications import result_folder
with result_folder.making(sys.argv[1], {"command": "x"}) as folder:
    durable.write_text(folder / "one", "done")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_leaves_no_result_and_no_lock(tmp_path):
    output = tmp_path / "out"
    killed = subprocess.run([sys.executable, "-c", _KILLED, output], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not output.exists()
    with result_folder.making(output, {"command": "x"}) as folder:
        assert (folder / "one").exists()


def test_only_one_process_writes(tmp_path):
    output = tmp_path / "out"
    with result_folder.making(output, _REQUEST) as folder:
        (folder / "one").write_text("mine")
        with pytest.raises(durable.FolderInUseError), result_folder.making(output, {}):
            pass
    assert (output / "one").read_text() == "mine"
