"""The examples of docs/data.md and annotate.md run as written; tasks.md lists its tasks."""

import doctest
import pathlib

from rahf.input.registry import MIXTURES, TASKS

DOCS = pathlib.Path(__file__).parents[1] / "docs"


def test_data():
    found = doctest.testfile(str(DOCS / "data.md"), module_relative=False)
    assert found.attempted >= 10
    assert found.failed == 0


def test_annotate():
    found = doctest.testfile(str(DOCS / "annotate.md"), module_relative=False)
    assert found.attempted >= 6
    assert found.failed == 0


def test_every_scenes_task_is_listed():
    text = (DOCS / "tasks.md").read_text()
    for name in (*TASKS, *MIXTURES):
        if name.startswith("scenes_"):
            assert f"`{name}`" in text or "warm" in name
