"""What a split is evaluated for, and what is said of the rest; nothing is compiled."""

import numpy as np
import pytest

from rahf import targets
from rahf.bin import eval_scores, report
from rahf.evaluation import runs, split
from rahf.evaluation.evaluate import Results
from tests.support import tiny


def _config(task, variant="augmented"):
    config = tiny.config(variant)
    config.task.name = task
    config.input.image_size = 64
    return config


def test_a_target_that_no_task_asks_is_named():
    evaluator = split.SplitEvaluator(
        _config("scenes_overall"), split="test", examples=2
    )
    truth = lambda batch: batch["targets"]
    results = evaluator.measure(truth)
    assert list(results.metrics) == ["overall"]
    others = [name for name in targets.FEEDBACK if name != "overall"]
    assert list(results.facts["not_measured"]) == others
    assert results.notes()[0] == (
        "implausibility: not measured, no example of "
        "config.task.name='scenes_overall' asks for it"
    )


def test_the_order_is_the_tables_whatever_the_configs():
    config = _config("scenes_multihead", "multihead")
    config.task.targets = tuple(reversed(config.task.targets))
    assert split.SplitEvaluator(config).targets == targets.FEEDBACK


class _NoLabels(list):
    """Batches of a split: of one example, without a label."""

    bad_records = 3


def test_a_split_without_labels(monkeypatch):
    batch = {"weights": {"overall": np.zeros(1)}, "targets": {"overall": np.zeros(1)}}
    found = _NoLabels([(batch, [{"uid": "a", "prompt": ""}])])
    monkeypatch.setattr(split, "make_eval_batches", lambda *_, **__: found)
    config = _config("scenes_overall")
    config.task.targets = ("overall",)
    results = split.SplitEvaluator(config, split="test").measure(lambda batch: {})
    assert results.metrics == {"overall": {"n": 0}}
    assert results.notes() == [
        "overall: not measured, no example of the test split is labelled",
        "3 bad records were skipped and are not measured",
    ]


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ("plausibility/plcc", "'plausibility' is not measured in this run"),
        ("overall/cc", "metrics of 'overall'"),
        ("overall/mse", "higher is better"),
    ],
)
def test_a_best_metric_is_one_of_the_run(metric, message):
    config = _config("scenes_overall")
    config.checkpoint.best_metric = metric
    with pytest.raises(ValueError, match=f"config.checkpoint.best_metric='{metric}"):
        split.SplitEvaluator(config).check()
    config.checkpoint.keep_best = 0  # then nothing is chosen, but names are names
    if "measured" in message:
        split.SplitEvaluator(config).check()
    else:
        with pytest.raises(ValueError, match=message):
            split.SplitEvaluator(config).check()


@pytest.fixture
def binaries(monkeypatch):
    """The binaries, without a checkpoint; returns what their evaluation finds."""
    found = Results({"overall": {"n": 0}}, facts={"truncated": 0, "seconds": 0.0})
    config = tiny.config()
    monkeypatch.setattr(runs, "restore_for_inference", lambda *_: (config, {}, 7))
    monkeypatch.setattr(runs, "SplitEvaluator", lambda *_, **__: lambda params: found)
    return found


def test_nothing_to_measure_is_an_error(binaries, tmp_path):
    binaries.facts["not_measured"] = {"overall": "for a reason"}
    message = "error: nothing to measure: overall: not measured, for a reason"
    with pytest.raises(SystemExit, match=message):
        eval_scores.main([f"--checkpoint={tmp_path}", f"--output={tmp_path}"])
    assert not list(tmp_path.iterdir())


def test_what_is_not_measured_is_printed(binaries, tmp_path, capsys):
    binaries.metrics["overall"] = {"plcc": 0.5, "srcc": 0.5, "mse": 0.1, "n": 2}
    binaries.facts["not_measured"] = {"alignment": "for a reason"}
    eval_scores.main([f"--checkpoint={tmp_path}"])
    assert "\nalignment: not measured, for a reason\n" in capsys.readouterr().out
    again = Results.read(tmp_path / "eval" / "test" / "scores.json")
    assert again.facts["not_measured"] == {"alignment": "for a reason"}


@pytest.mark.parametrize("place", ["--output", "eval"])
def test_an_output_is_tried_before_the_measuring(
    place, binaries, tmp_path, monkeypatch
):
    monkeypatch.setattr(runs, "SplitEvaluator", lambda *_, **__: pytest.fail)
    arguments = [f"--checkpoint={tmp_path}"]
    if place == "eval":
        (tmp_path / "eval").write_text("a file in the way")
    else:
        arguments.append(f"--output={tmp_path}/eval/x")
        (tmp_path / "eval").touch()
    with pytest.raises(
        SystemExit, match="error: --output=.* cannot be written"
    ) as stop:
        eval_scores.main(arguments)
    assert "\n" not in str(stop.value)
    if place == "--output":
        with pytest.raises(SystemExit, match="error: --output=.*eval/x cannot be"):
            report.main([arguments[0], f"--output={tmp_path}/eval/x"])


def test_an_unknown_key_is_told_by_the_binary(binaries, tmp_path):
    flags = [f"--checkpoint={tmp_path}", f"--output={tmp_path}"]
    with pytest.raises(SystemExit, match=r"did you mean input\.scenes\.difficulty"):
        eval_scores.main([*flags, "--set=input.scenes.dificulty=full"])
