"""A workdir in a bucket is written, resumed, damaged, cut short, loaded and measured."""

import contextlib
import json
import pathlib

import jax
import numpy as np
import pytest
from PIL import Image

from rahf.bin import predict
from rahf.checkpoints import checkpointer, metrics_log, restore
from rahf.checkpoints import workdir as workdirs
from rahf.evaluation import runs
from rahf.evaluation.evaluate import Results
from rahf.reports import checkpoint_page
from rahf.storage import growing
from rahf.training import loop
from tests.support import cloud_storage, quick_steps, tiny

FIXTURE = pathlib.Path(__file__).parents[1] / "fixtures" / "workdirs" / "227259f"
RUN = "gs://bucket/run"


@pytest.fixture(name="bucket")
def _bucket(monkeypatch):
    with cloud_storage.serving(monkeypatch) as bucket:
        yield bucket


def _config(**fields):
    config = tiny.config()
    config.update_from_flattened_dict(fields)
    return config


def _save(saver, *steps):
    for step in steps:
        state = {"step": jax.device_put(np.full(1000, step, np.int32))}
        saver.save(step, state, {"position": step}, {})


def _restore(saver):
    """Returns the number that the newest step's arrays hold, and its position."""
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    shape = jax.ShapeDtypeStruct((1000,), np.int32, sharding=here)
    state, position = saver.restore({"step": shape})
    return {int(x) for x in state["step"]}, position


def _opened():
    return contextlib.closing(checkpointer.Checkpointer(RUN, _config()))


def test_steps_are_saved_kept_and_read(bucket):
    for step in (1, 3):  # of an earlier version
        bucket.put(f"run/input_state/{step}/process_0.json", b"{}")
    with _opened() as saver:
        _save(saver, 1, 2, 3)
    assert restore.complete_steps(RUN) == [2, 3]
    assert bucket.names("run/checkpoints/1/") == []
    assert bucket.names("run/input_state") == ["run/input_state/3/process_0.json"]
    with _opened() as saver:
        assert _restore(saver) == ({3}, {"position": 3})
    content = json.loads(bucket.read("run/checkpoints/3/checksums.json"))["files"]
    assert "input_state/process_0-of-1.json" in content
    assert content.keys() <= {
        name.removeprefix("run/checkpoints/3/") for name in bucket.names()
    }


def test_a_damaged_step_is_put_aside(bucket, capsys):
    with _opened() as saver:
        _save(saver, 1, 2)
    [*_, name] = bucket.names("run/checkpoints/2/state/ocdbt.process_0/d/")
    data = bucket.read(name)
    bucket.put(name, data[:-1] + bytes([data[-1] ^ 1]))
    assert checkpointer.find_whole_step(RUN) == 1
    assert f"{pathlib.PurePath(name).name} is damaged" in capsys.readouterr().err
    assert bucket.names("run/checkpoints/2/") == []
    assert bucket.names("run/checkpoints/2.damaged/state/")
    with _opened() as saver:
        assert _restore(saver) == ({1}, {"position": 1})
    del bucket.objects[bucket.names("run/checkpoints/1/state/d/")[0]]
    with pytest.raises(ValueError, match="gs://bucket/run/checkpoints/1 is incomplete"):
        checkpointer.find_whole_step(RUN)


def test_a_step_that_was_not_committed_does_not_count(bucket, monkeypatch):
    """What is in the bucket when a process dies between the upload and the commit."""
    died = {}

    def write_checksums(folder):
        write(folder)
        if str(folder).endswith("/2"):
            died.update(bucket.objects)

    write = checkpointer.write_checksums
    monkeypatch.setattr(checkpointer, "write_checksums", write_checksums)
    with _opened() as saver:
        _save(saver, 1, 2)
    bucket.objects = died
    assert "run/checkpoints/2/checksums.json" in died
    assert "run/checkpoints/2/commit_success.txt" not in died
    assert restore.complete_steps(RUN) == [1]
    assert checkpointer.find_whole_step(RUN) == 1
    with _opened() as saver:
        assert _restore(saver) == ({1}, {"position": 1})
        assert bucket.names("run/checkpoints/2/") == []  # tidied up
        _save(saver, 2)
    assert restore.complete_steps(RUN) == [1, 2]


def test_a_run_goes_on_and_its_log_is_appended_to(
    bucket, monkeypatch, tmp_path, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(growing, "COPY_SECONDS", 1e9)  # the log is copied with a step
    quick_steps.use(monkeypatch)
    config = _config(training_steps=3, **{"checkpoint.every_steps": 3})
    at_save = []
    save = checkpointer.Checkpointer.save

    def noted(self, step, *args):
        at_save.append((step, bucket.read("run/metrics.jsonl").count(b"\n")))
        save(self, step, *args)

    monkeypatch.setattr(checkpointer.Checkpointer, "save", noted)
    loop.train(config, RUN, tiny.NoiseInput(config))
    config.training_steps = 4
    loop.train(config, RUN, tiny.NoiseInput(config))
    assert at_save == [(3, 3), (4, 4)]
    assert [row["step"] for row in metrics_log.read_metrics(RUN)] == [1, 2, 3, 4]
    [_, segment] = workdirs.read_config(RUN).segments
    assert segment["changed"]["training_steps"] == [3, 4]
    top = {name.split("/")[1].split(".")[0] for name in bucket.names("run/")}
    assert top == {"checkpoints", "config", "events", "metrics", "vocabulary"}
    assert not list(tmp_path.iterdir())  # no folder called "gs:"
    loop.train(config, RUN, tiny.NoiseInput(config))
    assert "nothing to do: step 4 of 4, in gs://bucket/run" in capsys.readouterr().err
    with pytest.raises(ValueError, match="seed: was 0, now 1"):
        loop.train(_config(seed=1), RUN, tiny.NoiseInput(config))


def test_it_predicts_as_its_copy_on_a_disk(bucket, tmp_path):
    bucket.copy_in(FIXTURE, "old")
    there = restore.restore_for_inference("gs://bucket/old")
    here = restore.restore_for_inference(FIXTURE)
    assert there[2] == here[2] == 2
    jax.tree.map(np.testing.assert_array_equal, there[1], here[1])
    assert there[0].input.vocabulary == "gs://bucket/old/vocabulary.model"
    step = restore.read_params("gs://bucket/old/checkpoints/2")
    assert step.keys() == restore.read_params(FIXTURE).keys()
    with pytest.raises(ValueError, match="gs://bucket/none/config.json does not exist"):
        restore.restore_for_inference("gs://bucket/none")
    bucket.refused["GET", "/config.json"] = 403
    with pytest.raises(ValueError, match="config.json cannot be read: Forbidden"):
        restore.restore_for_inference("gs://bucket/old")
    bucket.refused.clear()
    Image.new("RGB", (20, 10)).save(tmp_path / "a.png")
    flags = [f"{tmp_path}/a.png", "--prompt=a red circle", f"--output={tmp_path}/out"]
    assert not predict.main(["--checkpoint=gs://bucket/old", *flags])
    [line] = (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()
    assert "gs://bucket/old, step 2" in line


class _Evaluator:
    """One that measures nothing, so that no model is compiled."""

    targets = ("overall",)

    def __init__(self, config, **fields):
        self._facts = {"split": fields["split"], "examples": 0}

    def __call__(self, params):
        metrics = {"overall": {"n": 3, "plcc": 0.5, "srcc": 0.5}}
        return Results(metrics=metrics, facts=self._facts)

    def predict_examples(self, params, count):
        return []


def test_results_and_the_page_are_written_there(bucket, monkeypatch):
    bucket.copy_in(FIXTURE, "old")
    monkeypatch.setattr(runs, "SplitEvaluator", _Evaluator)
    request = runs.EvaluationRequest(checkpoint="gs://bucket/old")
    _, paths = runs.measure(runs.RunEvaluation(request), "scores")
    assert paths[0] == "gs://bucket/old/eval/test/scores.json"
    page = checkpoint_page.write_checkpoint_page(
        checkpoint_page.PageRequest(evaluation=request)
    )
    assert str(page) == "gs://bucket/old/report.html"
    assert b"<svg" in bucket.read("old/report.html")  # its curves, from the log
    assert "old/eval/test/all.json" not in bucket.objects  # those of scores.json served
    bucket.refused["POST", "/upload"] = 403
    with pytest.raises(ValueError, match="--output: gs://bucket/old/eval/test.*choose"):
        runs.measure(runs.RunEvaluation(request), "scores")
