"""The recipes of docs/tasks.md for a target of one's own run exactly as printed."""

import io
import pathlib
import re
import sys

import jax
import numpy as np
import pytest
import seqio
import tensorflow as tf
from PIL import Image

from rahf import targets
from rahf.evaluation.split import SplitEvaluator
from rahf.input import loader as data_input
from rahf.input import registry
from rahf.models import sharding
from rahf.training import losses, steps
from tests.support import tiny

_TEXT = (pathlib.Path(__file__).parents[1] / "docs" / "tasks.md").read_text("utf-8")
MODULE, TOGETHER, ALONE, SEQIO_MODULE, SEQIO = re.findall(
    r"```python\n(.+?)```", _TEXT, re.DOTALL
)


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """A folder on the Python path; what its modules register is forgotten after."""
    tables = (registry.TASKS, registry.MIXTURES, targets._TABLE)
    before = [dict(table) for table in tables]
    for table in tables:  # of tests/support/example_task, from other tests
        for name in [name for name in table if "warm" in name]:
            del table[name]
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for table, entries in zip(tables, before, strict=True):
        table.clear()
        table.update(entries)
    for name in ("example_task", "example_task.warmth", "mine"):
        sys.modules.pop(name, None)
    if "mine_overall" in seqio.TaskRegistry.names():
        seqio.TaskRegistry.remove("mine_overall")


def config_of(block):
    config = tiny.config("augmented")  # configs/scenes.py, with its loss weights
    config.input.image_size = 64
    exec(block, {"config": config})  # noqa: S102
    return config


def check_it_trains(config, split="dev"):
    """Batches are made, every target is asked and the step takes them."""
    data_input.asked_targets(config)
    evaluator = SplitEvaluator(config, split=split)
    evaluator.check()
    assert evaluator.targets == tuple(config.task.targets)
    train_input = data_input.make_train_input(config)
    batch = next(train_input)
    train_input.close()
    assert set(batch["weights"]) == set(config.task.targets)
    mesh = sharding.make_mesh(config, jax.devices()[:1])
    with sharding.use(mesh, config):
        state, shardings = steps.make_state(config, mesh, abstract=True)
        step = steps.make_train_step(config, mesh, shardings)
        _, metrics = jax.eval_shape(step, state, batch)
    assert set(metrics["loss_sum"]) == set(config.task.targets)
    return batch


@pytest.fixture
def warmth(packages):
    (packages / "example_task").mkdir()
    (packages / "example_task" / "__init__.py").touch()
    (packages / "example_task" / "warmth.py").write_text(MODULE)


@pytest.mark.usefixtures("warmth")
def test_a_target_beside_another():
    config = config_of(TOGETHER)
    batch = check_it_trains(config)
    assert sum(weights.sum() for weights in batch["weights"].values()) == 8
    assert losses.loss_weights(config.loss_weights, config.task.targets) == {
        "plausibility": 4.0,
        "warmth": 1.0,
    }


@pytest.mark.usefixtures("warmth")
def test_a_target_alone():
    config = config_of(ALONE)
    batch = check_it_trains(config)
    red, blue = (batch["image"][..., c].mean(axis=(1, 2)) / 255 for c in (0, 2))
    np.testing.assert_allclose(
        batch["targets"]["warmth"], (1 + red - blue) / 2, atol=1e-4
    )
    config.checkpoint.best_metric = "plausibility/plcc"
    with pytest.raises(ValueError, match=r"best_metric=.* measures warmth"):
        SplitEvaluator(config).check()


def test_a_task_of_seqio(packages):
    def feature(value):
        if isinstance(value, float):
            return tf.train.Feature(float_list=tf.train.FloatList(value=[value]))
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))

    buffer = io.BytesIO()
    Image.new("RGB", (20, 10), "red").save(buffer, "PNG")
    for split in ("train", "dev"):
        with tf.io.TFRecordWriter(f"{split}.tfrecord") as file:
            for i in range(8):
                fields = {"id": b"%d" % i, "caption": b"a cat", "rating": 4.0}
                fields |= {"png": buffer.getvalue()}
                features = tf.train.Features(
                    feature={name: feature(value) for name, value in fields.items()}
                )
                example = tf.train.Example(features=features)
                file.write(example.SerializeToString())
    (packages / "mine.py").write_text(SEQIO_MODULE)
    batch = check_it_trains(config_of(SEQIO))
    assert batch["targets"]["overall"].tolist() == [0.75] * 8
