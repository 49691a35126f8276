import json

import numpy as np
import pytest

from rahf.datasets.scenes import Scenes
from rahf.evaluation import runs, trivial
from rahf.evaluation.results import read_results
from rahf.evaluation.split import SplitEvaluator
from rahf.reports import run_page
from rahf.targets import Kind
from tests.support import tiny

NUMBER = 30
NAMES = ("implausibility", "overall", "misaligned_words")


def _config(variant="multihead"):
    config = tiny.config(variant)
    config.input.update(image_size=64)
    config.input.scenes.update(train_examples=NUMBER, difficulty="simple")
    return config


@pytest.fixture(scope="module")
def records():
    scenes = Scenes("train", 64, difficulty="simple", num_examples=NUMBER)
    return [scenes[i] for i in range(NUMBER)]


@pytest.mark.parametrize("variant", ["multihead", "augmented"])
def test_means_of_the_training_labels(records, variant):
    found = trivial.TrivialAnswers.learn(_config(variant), NAMES).answers
    scores = [record["overall_score"] for record in records]
    maps = [record["artifact_map"] for record in records]
    # A mixture draws its tasks evenly, and some records once more.
    atol = 1e-6 if variant == "multihead" else 0.05
    np.testing.assert_allclose(found["overall"], np.mean(scores), atol=atol)
    np.testing.assert_allclose(
        found["implausibility"], np.mean(maps, axis=0), atol=4 * atol
    )
    assert found["misaligned_words"] == 1


def test_what_is_measured():
    config = _config()
    evaluator = SplitEvaluator(config, split="test", examples=24)
    found = trivial.measure(config, evaluator).metrics
    scenes = Scenes("test", 64, difficulty="simple")
    words = found["misaligned_words"]
    share = words["n_misaligned"] / words["n_words"]
    assert words["precision_micro"] == pytest.approx(share)
    assert words["average_precision"] == pytest.approx(share)
    assert words["f1_micro"] == pytest.approx(2 * share / (1 + share))
    scores = np.array([scenes[i]["overall_score"] for i in range(24)])
    answer = trivial.TrivialAnswers.learn(config, ("overall",)).answers["overall"]
    assert found["overall"]["mse"] == pytest.approx(np.square(scores - answer).mean())
    assert found["overall"]["plcc"] == 0
    # A centre prior is better than chance.
    assert found["implausibility"]["auc_judd"] > 0.55


def test_who_does_not_beat_it():
    beside = {
        "overall": {"n": 9, "mse": 0.03, "plcc": 0.0},
        "implausibility": {"n": 9, "mse": 0.01, "cc": 0.2},
        "misaligned_words": {"n": 9, "f1_micro": 0.3, "average_precision": 0.2},
    }
    better = {
        "overall": {"n": 9, "mse": 0.02, "plcc": 0.5},
        "implausibility": {"n": 9, "mse": 0.009, "cc": 0.3},
        "misaligned_words": {"n": 9, "f1_micro": 0.4, "average_precision": 0.3},
    }
    assert trivial.not_beaten(better, beside) == {}
    assert trivial.not_beaten(beside, beside) == {
        "overall": ["MSE"],
        "implausibility": ["CC", "MSE"],
        "misaligned_words": ["F1 micro", "AP"],
    }
    # No example is labelled, or defines the metric.
    assert trivial.not_beaten({"overall": {"n": 0}}, beside) == {}
    assert trivial.not_beaten({"implausibility": {"n": 9, "mse": 0.02}}, beside) == {
        "implausibility": ["MSE"]
    }


def test_beside_a_model_that_learned_nothing(tmp_path):
    """In the table, in the file, in the report, and marked."""
    tiny.write_workdir(tmp_path, _config())
    request = runs.EvaluationRequest(
        checkpoint=str(tmp_path), examples=12, baseline="trivial"
    )
    text = runs.evaluate_run(request, Kind.SCORE, "scores")
    assert "overall, trivial" in text
    assert "overall: NOT BETTER THAN TRIVIAL in MSE" in text
    folder = tmp_path / "eval" / "test"
    saved = json.loads((folder / "scores.json").read_text())
    assert set(saved["metrics"]) == set(saved["trivial"])
    report = run_page.RunReport(title="x", results=read_results(folder, step=1))
    html = run_page.write_report(tmp_path / "page.html", report).read_text()
    assert "overall, trivial" in html
    assert "NOT BETTER THAN TRIVIAL in MSE" in html
