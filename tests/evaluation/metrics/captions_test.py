"""Caption metrics against numbers by hand, and in an evaluation as the loop runs it."""

import math

import jax
import numpy as np
import pytest

from rahf import targets
from rahf.evaluation.metrics.captions import CaptionMetrics
from rahf.evaluation.split import SplitEvaluator
from rahf.models import sharding
from rahf.training import steps
from tests.support import tiny

CAPTION = targets.get("caption")


def metrics(predictions, truths, weights=None):
    accumulator = CaptionMetrics.empty(CAPTION)
    accumulator.update(np.array(predictions), np.array(truths), weights)
    return accumulator


def test_by_hand():
    half, quarter = math.log(0.5), math.log(0.25)
    # Padding (0) and what is predicted there do not count.
    predictions = [[half, quarter, -99.0], [half, half, half], [-99.0] * 3]
    truths = [[5, 1, 0], [5, 5, 1], [7, 7, 7]]
    found = metrics(predictions, truths, np.array([1, 1, 0])).compute()
    nll = math.log(2) * 6 / 5
    # Three of five pieces are 5, two are 1.
    unigram = -(0.6 * math.log(0.6) + 0.4 * math.log(0.4))
    assert found == {
        "n": 2,
        "n_pieces": 5,
        "nll": pytest.approx(nll),
        "nll_unigram": pytest.approx(unigram),
        "perplexity": pytest.approx(2 ** (6 / 5)),
    }


def test_pieces_are_pooled_not_examples():
    one = metrics([[-1.0, 0.0, 0.0]], [[4, 0, 0]])
    other = metrics([[-4.0, -4.0, -4.0]], [[4, 4, 1]])
    assert one.merge(other).compute()["nll"] == 13 / 4
    assert metrics(np.zeros((0, 3)), np.zeros((0, 3))).compute() == {
        "n": 0,
        "n_pieces": 0,
    }


def test_errors():
    with pytest.raises(ValueError, match=r"of target caption: .* \(3,\) and \(2,\)"):
        metrics([[0.0, 0.0, 0.0]], [[4, 1]])
    with pytest.raises(ValueError, match="log-probabilities in example 0 of target"):
        metrics([[np.nan, 0.0]], [[4, 1]])


def test_a_captioning_run_is_evaluated():
    """Only what its tasks ask for, and a blind model scores as one must."""
    config = tiny.config("augmented")
    config.input.image_size = 64
    config.task.name = "scenes_captioning"
    config.task.targets = (*config.task.targets, "caption")
    evaluator = SplitEvaluator(config, examples=6)
    assert evaluator.targets == ("caption",)
    mesh = sharding.make_mesh(config, jax.devices()[:1])
    with sharding.use(mesh, config):
        shapes = steps.make_state(config, mesh, abstract=True)[0].params
    params = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
    results = evaluator(params, progress=False)
    found = results.metrics["caption"]
    # Zero logits: every id of the vocabulary is as likely.
    assert found["nll"] == pytest.approx(math.log(config.model.t5.vocab_size), rel=1e-5)
    assert found["n"] == 6
    assert 0 < found["nll_unigram"] < found["nll"]
    assert "NLL v" in results.table() and "pieces" in results.table()
    assert [row["target"] for row in results.rows] == ["caption"] * 6
    assert evaluator.predict_examples(params, 2) == []
    with pytest.raises(
        ValueError, match="asks for caption: none of them is of kind sc"
    ):
        SplitEvaluator(config, kind=targets.Kind.SCORE)
