"""Losses by hand, and how they are weighted."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rahf.targets import Kind
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


def _choices(*rows):
    return jnp.array(rows, jnp.float32)


def test_choices_by_hand():
    """Of three pairs: the second image was chosen, a tie, three votes in four."""
    scores = jnp.array([0.6, 0.4, 0.9, 0.2, 0.3, 0.8])
    choices = _choices((0, 0), (1, 0), (0.5, 0), (0.5, 0), (0.75, 0), (0.25, 0))
    found = losses.preference_loss(scores, choices, scale=5.0)
    log_odds = 5.0 * np.array([0.2, 0.7, -0.5])
    lost, won = np.log1p(np.exp(log_odds)), np.log1p(np.exp(-log_odds))
    chance = np.array([0, 0.5, 0.75])
    expected = chance * won + (1 - chance) * lost
    np.testing.assert_allclose(found, np.repeat(expected, 2), rtol=1e-5)


def test_the_gradient_of_choices_by_hand():
    """Each image is pushed by the scale times the error of the predicted chance."""
    choices = _choices((1, 0), (0, 0), (0.5, 0), (0.5, 0))
    of = lambda scores: losses.preference_loss(scores, choices, scale=4.0)[::2].sum()
    found = jax.grad(of)(jnp.array([0.5, 0.75, 0.2, 0.2]))
    error = 1 / (1 + np.exp(1.0)) - 1  # the predicted chance of the first, minus 1
    np.testing.assert_allclose(found, [4 * error, -4 * error, 0, 0], rtol=1e-5)


@pytest.mark.parametrize("way", ["of the pair", "of all"])
def test_a_margin_is_due_to_the_chosen_image_alone(way):
    scores = jnp.array([0.5, 0.25, 0.25, 0.5, 0.5, 0.25, 0.5, 0.25])
    chance = np.array([1, 0, 0, 1, 0.5, 0.5, 0.75, 0.25])
    own, added = (0.25, 0.0) if way == "of the pair" else (0.0, 0.25)
    choices = np.stack([chance, np.full(8, own)], axis=1).astype(np.float32)
    found = losses.preference_loss(scores, choices, scale=8.0, margin=added)
    # What exceeds by just the margin is as good as level; a tie has no margin, and
    # three votes in four have half of one.
    tie = (np.log1p(np.exp(2.0)) + np.log1p(np.exp(-2.0))) / 2
    divided = 0.75 * np.log1p(np.exp(-1.0)) + 0.25 * np.log1p(np.exp(1.0))
    expected = [np.log(2), np.log(2), tie, divided]
    np.testing.assert_allclose(found, np.repeat(expected, 2), rtol=1e-5)


def test_a_tie_is_least_where_scores_are_equal():
    choices = _choices((0.5, 0), (0.5, 0))
    losses_at = [
        float(losses.preference_loss(jnp.array([s, 0.5]), choices)[0])
        for s in (0.3, 0.5, 0.7)
    ]
    assert losses_at[0] == losses_at[2] > losses_at[1]


def test_no_error_however_far_scores_are_apart():
    choices = _choices((0, 0), (1, 0))
    of = lambda scores: losses.preference_loss(scores, choices, scale=1e4).sum()
    value, gradient = jax.value_and_grad(of)(jnp.array([1.0, 0.0]))
    assert value == 2e4 and np.isfinite(gradient).all()


def test_what_is_no_pair_adds_nothing():
    """Rows without a choice, and padding, change neither the loss nor its gradient."""
    name = "overall_preference"

    def run(scores, choices, weights):
        batch = {"targets": {name: choices}, "weights": {name: weights}}
        of = lambda s: losses.total(
            {name: s}, batch, {name: 2.0}, {name: weights.sum()}
        )
        (value, sums), gradient = jax.value_and_grad(of, has_aux=True)(scores)
        return value, sums[name], gradient

    pair = _choices((1, 0), (0, 0))
    value, total, gradient = run(jnp.array([0.2, 0.6]), pair, jnp.ones(2))
    padded = run(
        jnp.array([0.9, 0.1, 0.2, 0.6, 0.0, 0.3]),
        jnp.concatenate([0 * pair, pair, 0 * pair]),
        jnp.array([0.0, 0, 1, 1, 0, 0]),
    )
    np.testing.assert_allclose(padded[0], value, rtol=1e-6)
    np.testing.assert_allclose(padded[1], total, rtol=1e-6)
    np.testing.assert_allclose(padded[2], [0, 0, *gradient, 0, 0], rtol=1e-6)


def test_options_of_choices():
    config = tiny.config()
    pair = jnp.array([0.5, 0.25]), _choices((1, 0), (0, 0))
    plain = losses.make_losses(config)[Kind.PREFERENCE](*pair)
    np.testing.assert_array_equal(plain, losses.preference_loss(*pair))
    config.preference = {"scale": 8.0, "margin": 0.25}
    level = losses.make_losses(config)[Kind.PREFERENCE](*pair)
    np.testing.assert_allclose(level, np.log(2), rtol=1e-6)
    for bad in ({"scale": 0.0}, {"margin": 1.0}, {"scale": float("inf")}):
        config.preference = {"scale": 8.0, "margin": 0.25} | bad
        with pytest.raises(ValueError, match="config.preference.scale=.*margin="):
            losses.make_losses(config)
    config.preference = {"temperature": 1.0}
    with pytest.raises(ValueError, match="no option temperature; it has scale"):
        losses.make_losses(config)


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
