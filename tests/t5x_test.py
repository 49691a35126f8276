"""T5X drives RAHF, and its losses are those of our own trainer.

Runs where T5X is installed (bash launch/install_t5x.sh), in processes of its own: as a
user calls it, and because T5X warns a lot.
"""

import importlib.util
import os
import pathlib
import subprocess
import sys

import pytest

from configs import scenes_multihead
from rahf.data.input import make_train_input
from rahf.training import loop
from rahf.training.logs import read_metrics

ROOT = pathlib.Path(__file__).resolve().parents[1]
OVERRIDES = {
    "training_steps": 4,
    "input.loader": "seqio",
    "input.batch_size": 8,
    "input.scenes.train_examples": 16,
    "model.vit.width": 32,
    "model.vit.depth": 1,
    "model.vit.mlp_dim": 64,
    "model.vit.num_heads": 2,
    "model.t5.embed_dim": 64,
    "model.t5.head_dim": 16,
    "model.t5.mlp_dim": 64,
    "model.t5.encoder_layers": 1,
    "schedule.warmup_steps": 2,
    "log.every_steps": 1,
}

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("t5x") is None,
    reason="T5X is not installed (bash launch/install_t5x.sh)",
)


def _train(cache: pathlib.Path, **bindings):
    """Runs t5x.train with our gin file on one CPU device.

    `cache` keeps what one process has compiled for the next.
    """
    bindings["OVERRIDES"] = OVERRIDES
    flags = [f"--gin.{name}={value!r}" for name, value in bindings.items()]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "t5x.train",
            "--gin_file=configs/t5x/train.gin",
            *flags,
        ],
        cwd=ROOT,
        env={
            **os.environ,
            "XLA_FLAGS": "--xla_backend_optimization_level=0",  # compiles faster
            "JAX_COMPILATION_CACHE_DIR": str(cache),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]


def _scalars(folder: pathlib.Path, tag: str) -> dict[int, float]:
    """Step -> value, from TensorBoard's files; of a step written twice the last."""
    import tensorflow as tf
    from tensorflow.core.util import event_pb2

    found = {}
    for path in sorted(folder.glob("events*"), key=os.path.getmtime):
        for record in tf.data.TFRecordDataset(str(path)):
            event = event_pb2.Event.FromString(record.numpy())
            for value in event.summary.value:
                if value.tag == tag:
                    found[event.step] = float(tf.make_ndarray(value.tensor))
    return found


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory):
    """Two steps, and in another process two more."""
    folder = tmp_path_factory.mktemp("t5x")
    short = {"MODEL_DIR": str(folder), "PERIOD": 1, "EVAL_STEPS": 1}
    for steps in (2, 4):
        _train(folder / "compiled", TRAIN_STEPS=steps, **short)
    return folder


def test_the_losses_of_both_trainers_agree(model_dir, tmp_path):
    config = scenes_multihead.get_config()
    config.update_from_flattened_dict(OVERRIDES)
    loop.train(config, tmp_path, make_train_input(config))
    ours = {row["step"]: row for row in read_metrics(tmp_path)}
    for tag in ("loss", *(f"loss/{name}" for name in config.task.targets)):
        theirs = _scalars(model_dir / "train", tag)
        assert list(theirs) == [1, 2, 3, 4]
        for step, value in theirs.items():
            assert value == pytest.approx(ours[step][f"train/{tag}"], rel=1e-5), tag
    assert len(_scalars(model_dir / "training_eval" / "scenes_multihead", "loss")) == 4
