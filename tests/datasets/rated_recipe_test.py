"""The recipe of docs/own_data.md for a score of one's own, as it is printed."""

import ast
import pathlib
import re
import shlex
import sys

import numpy as np
import pytest

from configs import rated_images as config_file
from rahf import targets
from rahf.input import loader as data_input
from rahf.input import registry
from rahf.training import losses
from tests.support import rated_tables


def test_the_recipe_for_a_score_of_your_own(tmp_path, monkeypatch):
    """The module and the command of docs/own_data.md, as they are printed."""
    text = (pathlib.Path(__file__).parents[2] / "docs/own_data.md").read_text()
    [module] = re.findall(r"`mine.py`:\n\n```python\n(.+?)```", text, re.DOTALL)
    [command] = re.findall(r"Python path:\n\n    (python.+?)\n\n", text, re.DOTALL)
    (tmp_path / "mine.py").write_text(module)
    rated_tables.write_folder(tmp_path)
    rows = [[*row[:2], "4", "7"] for row in rated_tables.rows_of()]
    rated_tables.write_table(
        tmp_path, *rows, header=["image", "prompt", "mos_quality", "sharp"]
    )
    flags = dict(
        flag.removeprefix("--").split("=", 1)
        for flag in shlex.split(command.replace("\\\n", ""))[3:]
    )
    config = config_file.get_config(flags.pop("config").partition(":")[2])
    assert flags.pop("config.input.rated_images.path") == "ratings/ratings.csv"
    config.input.rated_images.path = str(tmp_path / "t.csv")
    config.task.name = flags.pop("config.task.name")
    config.task.modules = ast.literal_eval(flags.pop("config.task.modules"))
    assert set(flags) == {"workdir"}
    monkeypatch.syspath_prepend(tmp_path)
    try:
        batch = next(data_input.make_train_input(config))
        assert list(losses.loss_weights(config.loss_weights, config.task.targets)) == [
            "overall",
            "sharpness",
        ]
        np.testing.assert_allclose(batch["targets"]["sharpness"], 0.7)
        np.testing.assert_allclose(batch["targets"]["overall"], 0.75)
        config.input.rated_images.targets = "sharp:0-10->sharpness"
        config.task.targets = ("sharpness",)
        batch = next(data_input.make_train_input(config))
        np.testing.assert_allclose(batch["targets"]["sharpness"], 0.7)
        config.input.rated_images.targets = "sharp:0-10->aesthetics"
        with pytest.raises(ValueError, match="asks for overall, sharpness, but"):
            data_input.make_train_input(config)
    finally:
        sys.modules.pop("mine", None)
        registry.TASKS.pop("mine", None)
        targets._TABLE.pop("sharpness")
