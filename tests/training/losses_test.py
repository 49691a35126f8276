"""Losses by hand, and how they are weighted."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rahf.training import losses
from tests.support import tiny


def test_values_by_hand():
    truth = jnp.zeros((2, 2, 2))
    predicted = truth.at[1, 0, 0].set(0.5)
    np.testing.assert_allclose(losses.heatmap_loss(predicted, truth), [0, 0.0625])
    np.testing.assert_allclose(
        losses.score_loss(jnp.array([0.5, 1.0]), jnp.array([0.0, 1.0])), [0.25, 0.0]
    )


def test_text_loss_is_a_mean_over_tokens_without_padding():
    text_loss, logits = jax.jit(losses.text_loss), jnp.zeros((2, 4, 8))
    tokens = jnp.array([[3, 4, 1, 0], [0, 0, 0, 0]])
    np.testing.assert_allclose(text_loss(logits, tokens), [np.log(8), 0.0], rtol=1e-6)
    sure = logits.at[0, [0, 1, 2], [3, 4, 1]].set(50.0).at[0, 3, 5].set(99.0)
    np.testing.assert_allclose(text_loss(sure, tokens)[0], 0.0, atol=1e-6)


def test_total_averages_over_the_examples_that_have_the_target():
    outputs = {"plausibility": jnp.array([1.0, 1.0, 1.0]), "overall": jnp.ones(3)}
    batch = {
        "targets": {"plausibility": jnp.zeros(3), "overall": jnp.ones(3) * 0.5},
        "weights": {
            "plausibility": jnp.array([1.0, 0.0, 0.0]),
            "overall": jnp.array([0.0, 1.0, 1.0]),
        },
    }
    counts = {name: x.sum() for name, x in batch["weights"].items()}
    weights = {"plausibility": 1.0, "overall": 2.0}
    total, sums = losses.total(outputs, batch, weights, counts)
    np.testing.assert_allclose(total, 1.0 + 2 * 0.25)
    np.testing.assert_allclose(sums["overall"], 0.5)
    nothing = {name: 0 * x for name, x in counts.items()}
    batch["weights"] = {name: 0 * x for name, x in batch["weights"].items()}
    assert losses.total(outputs, batch, weights, nothing)[0] == 0.0


def test_weights_name_known_targets():
    config = tiny.config()
    config.loss_weights.mood = 1.0
    with pytest.raises(ValueError, match="config.loss_weights.mood"):
        losses.loss_weights(config.loss_weights, config.task.targets)
    config = tiny.config()
    del config.loss_weights.overall
    assert (
        losses.loss_weights(config.loss_weights, config.task.targets)["overall"] == 1.0
    )
    assert (
        losses.loss_weights(config.loss_weights, config.task.targets)["misalignment"]
        == 20.0
    )
    config.task.targets = ("overall",)  # the config keeps its weights
    assert losses.loss_weights(config.loss_weights, config.task.targets) == {
        "overall": 1.0
    }


def test_soft_words_weigh_both_ways_by_their_probability():
    logits = np.random.default_rng(0).normal(size=(2, 3, 7)).astype(np.float32)
    soft = np.zeros((2, 3, 3), np.float32)
    soft[0] = [[4, 4, 0], [5, 6, 0.25], [1, 1, 0]]
    soft[1] = [[2, 3, 0.5], [1, 1, 0], [0, 0, 0]]  # the last is padding
    said = np.log(np.exp(logits) / np.exp(logits).sum(-1, keepdims=True))
    first = -(
        said[0, 0, 4] + 0.75 * said[0, 1, 5] + 0.25 * said[0, 1, 6] + said[0, 2, 1]
    )
    second = -(0.5 * said[1, 0, 2] + 0.5 * said[1, 0, 3] + said[1, 1, 1])
    found = losses.soft_words_loss(logits, soft)
    np.testing.assert_allclose(found, [first / 3, second / 2], rtol=1e-5)


def test_a_certain_teacher_is_a_label():
    logits = np.random.default_rng(1).normal(size=(1, 3, 7)).astype(np.float32)
    tokens = np.array([[4, 5, 1]], np.int32)
    soft = np.stack([tokens, [[4, 6, 1]], [[0, 0, 0]]], axis=-1).astype(np.float32)
    np.testing.assert_allclose(
        losses.soft_words_loss(logits, soft),
        losses.text_loss(logits, tokens),
        rtol=1e-5,
    )
