"""What training prints of an evaluation, and its pictures."""

import numpy as np

from rahf.evaluation.display import EvaluationDisplay
from rahf.evaluation.examples import JudgedExample
from tests.support import tiny


class _Evaluator:
    def predict_examples(self, params, count):
        heatmaps = {"implausibility": np.full((2, 2), params)}
        example = JudgedExample(
            image=np.full((32, 32, 3), 90, np.uint8),
            prompt="a red cat on a very long prompt",
            scores={"overall": 0.5},
            heatmaps=heatmaps,
            words=[0.1, 0.9, 0.2],
            true_heatmaps=heatmaps,
        )
        return [example] * count


def test_the_table_is_small():
    results = {
        "plausibility/plcc": 0.5,
        "plausibility/srcc": 0.4,
        "plausibility/n": 64.0,
        "implausibility/cc": 0.25,
        "implausibility/auc_judd": 0.75,
        "implausibility/n": 60.0,
    }
    text = EvaluationDisplay(tiny.config(), _Evaluator()).table(1600, results)  # type: ignore
    head, *rows = text.splitlines()
    assert head == "step 1,600, dev split, 64 images   CC ^  AUC-Judd ^  PLCC ^"
    assert [row.split() for row in rows] == [
        ["implausibility", "0.250", "0.750", "-"],
        ["plausibility", "-", "-", "0.500"],
    ]


def test_numbers_of_another_learner_are_all_shown():
    display = EvaluationDisplay(tiny.config())
    text = display.table(2, {"dev/accuracy": 0.5, "dev/odd": 2.0})
    assert text.splitlines() == [
        "step 2  accuracy ^    odd",
        "dev          0.500  2.000",
    ]
    assert display.pictures(None) == {}


def test_pictures_are_of_the_examples_asked_for():
    config = tiny.config()
    config.log.examples = 2
    found = EvaluationDisplay(config, _Evaluator()).pictures(0.5)  # type: ignore
    assert list(found) == ["example/0", "example/1"]
    picture = found["example/0"]
    assert picture.dtype == np.uint8 and picture.shape[2] == 3
    assert picture.shape[1] > 3 * 256  # the image, the prediction and the truth
    config.log.examples = 0
    assert EvaluationDisplay(config, _Evaluator()).pictures(0.5) == {}  # type: ignore
    del config.log["examples"]  # a config of an older version
    assert EvaluationDisplay(config, _Evaluator()).pictures(0.5) == {}  # type: ignore
