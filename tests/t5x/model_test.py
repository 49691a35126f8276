"""T5X trains, evaluates and infers RAHF, and finds what our own binaries find.

Runs where T5X is installed (bash launch/install_t5x.sh), in processes of its own: as a
user calls it, and because T5X warns a lot.
"""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

import rahf
from configs import scenes_multihead
from rahf import images
from rahf.checkpoints import restore
from rahf.checkpoints import workdir as workdirs
from rahf.checkpoints.metrics_log import read_metrics
from rahf.datasets.scenes import Scenes
from rahf.evaluation.evaluate import Results
from rahf.evaluation.split import SplitEvaluator
from rahf.input.loader import make_train_input
from rahf.training import loop
from tests.support.quick_xla import QUICK

ROOT = pathlib.Path(__file__).resolve().parents[2]
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


def _run(verb: str, cache: pathlib.Path, **bindings):
    """Runs t5x.train, t5x.eval or t5x.infer with our gin file on one CPU device.

    `cache` keeps what one process has compiled for the next.
    """
    bindings["OVERRIDES"] = OVERRIDES
    flags = [f"--gin.{name}={value!r}" for name, value in bindings.items()]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            f"t5x.{verb}",
            f"--gin_file=configs/t5x/{verb}.gin",
            *flags,
        ],
        cwd=ROOT,
        env={
            **os.environ,
            "XLA_FLAGS": QUICK,
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
        _run("train", folder / "compiled", TRAIN_STEPS=steps, **short)
    return folder


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """The same four steps of our own trainer."""
    folder = tmp_path_factory.mktemp("ours")
    config = scenes_multihead.get_config()
    config.update_from_flattened_dict(OVERRIDES)
    loop.train(config, folder, make_train_input(config))
    return folder


def test_the_losses_of_both_trainers_agree(model_dir, workdir):
    config = workdirs.read_config(workdir)
    ours = {row["step"]: row for row in read_metrics(workdir)}
    for tag in ("loss", *(f"loss/{name}" for name in config.task.targets)):
        theirs = _scalars(model_dir / "train", tag)
        assert list(theirs) == [1, 2, 3, 4]
        for step, value in theirs.items():
            assert value == pytest.approx(ours[step][f"train/{tag}"], rel=1e-5), tag
    measured = model_dir / "training_eval" / config.task.name
    assert len(_scalars(measured, "loss")) == 4


def test_eval_finds_what_our_evaluation_finds(model_dir, workdir, tmp_path):
    _run(
        "eval",
        model_dir / "compiled",
        CHECKPOINT_PATH=str(model_dir / "checkpoint_4"),
        EVAL_OUTPUT_DIR=str(tmp_path),
        EXAMPLES=12,
    )
    folder = tmp_path / "inference_eval"
    theirs = Results.read(folder / "test" / "checkpoint_4.json")
    config, params, _ = restore.restore_for_inference(workdir)
    ours = SplitEvaluator(config, split="test", examples=12)(params, progress=False)
    assert list(theirs.metrics) == list(ours.metrics) == list(config.task.targets)
    for name, metrics in ours.metrics.items():
        assert theirs.metrics[name] == pytest.approx(metrics, abs=2e-3), name
        assert metrics["n"] == 12
    curve = _scalars(folder / config.task.name, "eval/overall/mse")
    assert curve == {4: pytest.approx(theirs.metrics["overall"]["mse"])}


def test_infer_writes_what_predict_predicts(model_dir, workdir, tmp_path):
    _run(
        "infer",
        model_dir / "compiled",
        CHECKPOINT_PATH=str(model_dir / "checkpoint_4"),
        INFER_OUTPUT_DIR=str(tmp_path),
        NUM_SHARDS=100,  # every hundredth record
    )
    [path] = tmp_path.glob("*.jsonl-00000-of-00100")
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    scenes = Scenes("test", 64, difficulty="simple")
    records = [scenes[i] for i in range(0, len(scenes), 100)]
    assert [line["id"] for line in lines] == [record["uid"] for record in records]
    predictor = rahf.load(workdir)
    prompts = [record["prompt"] for record in records]
    expected = predictor.predict([record["image"] for record in records], prompts)
    for line, prediction in zip(lines, expected, strict=True):
        assert line["prompt"] == prediction.prompt and isinstance(line["said"], str)
        assert line["scores"] == pytest.approx(prediction.scores, abs=1e-4)
        assert [word["text"] for word in line["words"]] == [
            word.text for word in prediction.words
        ]
        for word, ours in zip(line["words"], prediction.words, strict=True):
            assert word["probability"] == pytest.approx(ours.probability, abs=1e-4)
        for name, heatmap in prediction.heatmaps.items():
            found = images.read_heatmap(tmp_path / line["heatmaps"][name])
            np.testing.assert_allclose(found, heatmap, atol=1e-3)
