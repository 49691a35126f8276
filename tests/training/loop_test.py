"""The loop: exact resumption, what it writes, how it stops."""

import json

import jax
import numpy as np
import pytest

from rahf.checkpoints import restore
from rahf.checkpoints import workdir as workdirs
from rahf.checkpoints.metrics_log import read_metrics
from rahf.checkpoints.restore import restore_for_inference
from rahf.training import loop
from tests.support import quick_steps, tiny


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """Where it does not matter what is learned, nothing is."""
    quick_steps.use(monkeypatch)


@pytest.fixture(name="learning")
def _learning(monkeypatch, _quick):
    quick_steps.use(monkeypatch, "compiled")


def _train(config, workdir, **kwargs):
    source = tiny.NoiseInput(config)
    loop.train(config, workdir, source, **kwargs)
    return restore_for_inference(workdir)[1]


def _equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.usefixtures("learning")
def test_two_and_two_steps_equal_four(tmp_path):
    config = tiny.config()
    whole = _train(config, tmp_path / "whole")
    config.training_steps = 2
    half = _train(config, tmp_path / "parts")
    config.training_steps = 4
    resumed = _train(config, tmp_path / "parts")
    _equal(resumed, whole)
    moved = jax.tree.map(
        lambda a, b: bool((np.asarray(a) != np.asarray(b)).any()), half, whole
    )
    assert any(jax.tree.leaves(moved))
    curves = [read_metrics(tmp_path / name) for name in ("whole", "parts")]
    assert [x["step"] for x in curves[1]] == [1, 2, 3, 4]
    for a, b in zip(*curves, strict=True):
        assert a["train/loss"] == b["train/loss"]


@pytest.mark.usefixtures("learning")
def test_what_a_workdir_holds(tmp_path):
    config = tiny.config()
    seen = []

    def evaluate(params):
        seen.append(params)
        return {"plausibility/plcc": 0.25}

    _train(config, tmp_path, evaluate=evaluate)
    assert len(seen) == 1
    rows = read_metrics(tmp_path)
    assert rows[-1]["eval/plausibility/plcc"] == 0.25
    assert {"train/loss", "train/gradient_norm", "train/loss/overall"} <= set(rows[0])
    assert json.loads((tmp_path / "config.json").read_text())["training_steps"] == 4
    assert list(tmp_path.glob("events.*"))
    assert restore.complete_steps(tmp_path) == [2, 4]
    step = tmp_path / "checkpoints" / "4"
    assert [x.name for x in (step / "input_state").glob("p*")] == [
        "process_0-of-1.json"
    ]
    assert (step / "checksums.json").exists()


def test_latest_and_best_are_kept(tmp_path):
    config = tiny.config()
    config.training_steps = 6
    config.eval.every_steps = 2
    values = iter([0.9, 0.1, 0.2])
    _train(config, tmp_path, evaluate=lambda _: {"plausibility/plcc": next(values)})
    assert restore.complete_steps(tmp_path) == [2, 4, 6]
    assert restore_for_inference(tmp_path, "best")[2] == 2
    assert restore_for_inference(tmp_path, "latest")[2] == 6
    with pytest.raises(ValueError, match=r"no step 3; it has \[2, 4, 6\]"):
        restore_for_inference(tmp_path, 3)
    config.training_steps = 8  # the best is known after a restart, too
    _train(config, tmp_path, evaluate=lambda _: {"plausibility/plcc": 0.3})
    assert restore.complete_steps(tmp_path) == [2, 6, 8]
    assert restore_for_inference(tmp_path, "best")[2] == 2


@pytest.mark.parametrize("keep_best", [1, 0])
def test_a_best_metric_that_is_not_measured_is_told_once(tmp_path, capfd, keep_best):
    config = tiny.config()
    config.training_steps = 2
    config.eval.every_steps = 1
    config.checkpoint.keep_best = keep_best
    _train(config, tmp_path, evaluate=lambda _: {"plausibility/n": 0})
    told = capfd.readouterr().err
    line = "config.checkpoint.best_metric=plausibility/plcc was not measured at step 1 "
    assert told.count(line) == told.count("was not measured") == keep_best
    assert restore.complete_steps(tmp_path)


def test_evaluations_are_shown_and_steps_kept(tmp_path, capfd):
    config = tiny.config()
    config.training_steps = 4
    config.eval.every_steps = config.checkpoint.every_steps = 1
    config.checkpoint.update(keep_latest=1, keep_best=0, keep_every=2)
    shown = []

    class Display:
        def table(self, step, results):
            return f"<{step}: {results}>"

        def pictures(self, params):
            shown.append(params)
            return {}

    evaluate = lambda _: {"plausibility/plcc": 0.5}
    params = _train(config, tmp_path, evaluate=evaluate, display=Display())
    assert (
        capfd.readouterr().err.count("{'plausibility/plcc': 0.5}>") == len(shown) == 4
    )
    _equal(shown[-1], params)
    assert restore.complete_steps(tmp_path) == [2, 4]
    config.checkpoint.update(keep_every=3, every_steps=2)
    config.training_steps = 5
    with pytest.raises(ValueError, match="keep_every=3: expected 0, or a multiple of"):
        _train(config, tmp_path)


def test_an_evaluation_that_fails_loses_no_step(tmp_path):
    config = tiny.config()
    config.training_steps = 1

    def evaluate(params):
        raise FileNotFoundError("the images of the dev split")

    with pytest.raises(FileNotFoundError, match="dev split"):
        _train(config, tmp_path, evaluate=evaluate)
    assert restore.complete_steps(tmp_path) == [1]


@pytest.mark.usefixtures("learning")
def test_a_non_finite_loss_stops_with_its_name(tmp_path):
    config = tiny.config()
    source = tiny.NoiseInput(config)
    original = type(source).__next__

    class Poisoned(tiny.NoiseInput):
        def __next__(self):
            batch = original(self)
            if self._position == 3:
                batch["targets"]["aesthetics"][0] = np.nan
            return batch

    with pytest.raises(loop.NonFiniteLossError, match=r"step 3.*\['aesthetics'\]"):
        loop.train(config, tmp_path, Poisoned(config))
    assert restore.complete_steps(tmp_path) == [2]
    _train(config, tmp_path)  # goes on from before it
    assert restore.complete_steps(tmp_path) == [2, 4]


def test_another_models_workdir_is_refused(tmp_path):
    config = tiny.config()
    _train(config, tmp_path)
    config.model.t5.encoder_layers = 2
    with pytest.raises(ValueError, match="t5.encoder_layers: was 1, now 2"):
        _train(config, tmp_path)


def test_a_half_written_checkpoint_does_not_count(tmp_path):
    config = tiny.config()
    _train(config, tmp_path)
    half = tmp_path / "checkpoints" / "9.orbax-checkpoint-tmp"
    half.mkdir()
    (half / "state").mkdir()
    assert restore.complete_steps(tmp_path) == [2, 4]
    assert restore_for_inference(tmp_path)[2] == 4
    config.training_steps = 5
    _train(config, tmp_path)
    assert restore.complete_steps(tmp_path) == [4, 5]
    assert not half.exists()


def test_folders_that_are_no_workdir(tmp_path):
    with pytest.raises(ValueError, match="is not a workdir"):
        restore_for_inference(tmp_path)
    workdirs.write_config(tmp_path, tiny.config())
    with pytest.raises(ValueError, match="no complete checkpoint"):
        restore_for_inference(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "not valid JSON"),
        (b"", "is empty; was a copy interrupted"),
        (b"[]", r"expected a JSON object with model, input, task, got \[\]"),
        (b'{"model": {}, "task": {}}', "expected a JSON object with input, got"),
        (
            '{"model": {}}'.encode("utf-16"),
            "is not UTF-8 text .it begins with the bytes ff",
        ),
        (b"[" * 100_000, "nested too deeply"),
    ],
)
def test_a_config_that_is_none(tmp_path, content, message):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        restore_for_inference(tmp_path)
    assert str(tmp_path / "config.json") in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
