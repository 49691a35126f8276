"""The examples of docs/data.md, annotate.md and tasks.md run as written."""

import doctest
import pathlib
import re

from configs import scenes
from rahf.input.registry import MIXTURES, TASKS
from tests.support.example_task import warmth

DOCS = pathlib.Path(__file__).parents[1] / "docs"


def test_data():
    found = doctest.testfile(str(DOCS / "data.md"), module_relative=False)
    assert found.attempted >= 10
    assert found.failed == 0


def test_annotate():
    found = doctest.testfile(str(DOCS / "annotate.md"), module_relative=False)
    assert found.attempted >= 6
    assert found.failed == 0


def test_tasks():
    blocks = re.findall(
        r"```python\n(.+?)```", (DOCS / "tasks.md").read_text(), re.DOTALL
    )
    module, config_lines, seqio_task = blocks
    # The registered factory is the example module's own class, so only the rows of
    # the tables are compared: a second registration would be refused.
    scope = {}
    exec(module[: module.index("procedural.register(")], scope)  # noqa: S102
    options = {"image_size": 64}
    theirs, ours = (make("dev", options)[0] for make in (scope["Warm"], warmth.Warm))
    assert theirs["warmth_score"] == ours["warmth_score"]
    config = scenes.get_config()
    exec(config_lines, {"config": config})  # noqa: S102
    assert config.task.name in MIXTURES
    compile(seqio_task, "tasks.md", "exec")


def test_every_scenes_task_is_listed():
    text = (DOCS / "tasks.md").read_text()
    for name in (*TASKS, *MIXTURES):
        if name.startswith("scenes_"):
            assert f"`{name}`" in text or "warm" in name
