"""The examples of docs/ about data run as written; tasks.md lists its tasks."""

import doctest
import pathlib

import pytest

from rahf.input.registry import MIXTURES, TASKS

DOCS = pathlib.Path(__file__).parents[1] / "docs"


@pytest.mark.parametrize(
    ("page", "least"), [("data", 4), ("scenes", 4), ("input", 4), ("annotate", 6)]
)
def test_examples(page, least):
    found = doctest.testfile(str(DOCS / f"{page}.md"), module_relative=False)
    assert found.attempted >= least
    assert found.failed == 0


def test_every_scenes_task_is_listed():
    text = (DOCS / "tasks.md").read_text()
    for name in (*TASKS, *MIXTURES):
        if name.startswith("scenes_"):
            assert f"`{name}`" in text or "warm" in name
