"""`--set` of the eval binaries: known keys alone, told apart by the nearest name."""

import importlib

import pytest

from rahf.evaluation import overrides
from tests.configs_test import VARIANTS
from tests.support import tiny


def test_it_changes_what_is_there():
    config = tiny.config()
    overrides.set_key(config, "input.scenes.difficulty=simple")
    overrides.set_key(config, "input.scenes.train_examples=7")
    overrides.set_key(config, "input.richhf.data_dir=DIR")  # of another dataset
    assert config.input.scenes.to_dict() == {
        "difficulty": "simple",
        "train_examples": 7,
    }
    assert config.input.richhf.data_dir == "DIR"


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("input.scenes.dificulty=full", "did you mean input.scenes.difficulty?"),
        ("input.difficulty=full", "did you mean input.scenes.difficulty?"),
        ("input.richfh.data_dir=DIR", "did you mean input.richhf.data_dir"),
        ("task.nmae=scenes_seven", "did you mean task.name?"),
        ("input.zzz=1", "unknown key 'input.zzz'; known: .*input.cache"),
        ("input.scenes=3", "unknown key 'input.scenes'"),
        ("input.scenes.train_examples=many", "expected a value like 100000"),
        ("model.dtype=float32", "expected KEY=VALUE"),
    ],
)
def test_what_is_unknown_changes_nothing(assignment, message):
    config = tiny.config()
    with pytest.raises(ValueError, match=f"--set={assignment}: .*{message}"):
        overrides.set_key(config, assignment)
    assert config == tiny.config()


@pytest.mark.parametrize(("name", "argument"), [*VARIANTS, ("rahf_base", "richhf")])
def test_the_options_of_every_dataset_are_known(name, argument):
    config = importlib.import_module(f"configs.{name}").get_config(argument)
    for section, options in config.input.items():
        if hasattr(options, "items") and section != "augment":
            assert set(options) <= set(overrides.DATASETS[section])
