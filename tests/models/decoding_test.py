"""Decoding: against teacher forcing, and what the constraint promises."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rahf.models import decoding
from rahf.models.batch import example_batch
from rahf.models.rahf import RAHF, make_model
from tests.support import tiny


@pytest.fixture(scope="module")
def encoded():
    config = tiny.config()
    model, batch = make_model(config), tiny.batch(config)
    # Those of a new model: random ones are never sure of a mark.
    key, example = jax.random.key(0, impl="rbg"), example_batch(config)
    variables = jax.jit(lambda: nn.unbox(model.init(key, example)))()

    @jax.jit
    def encode(image, inputs):
        tokens = model.apply(variables, image, method=RAHF.encode_image)
        encoding = model.apply(variables, tokens, inputs, method=RAHF.encode)
        return encoding.feature_map, encoding.memory, encoding.memory_mask

    encoding = decoding.Encoding(*encode(batch["image"], batch["inputs"]))
    return model, variables, encoding, batch


def _say(model, variables, encoding, said):
    """Teacher forcing: the logits of each piece."""
    run = jax.jit(
        lambda said: model.apply(variables, encoding, said, method=RAHF.decode)
    )
    return np.asarray(run(said))


def test_greedy_says_what_teacher_forcing_finds_likeliest(encoded):
    model, variables, encoding, _ = encoded
    said = np.asarray(decoding.greedy(model, variables, encoding, 10))
    logits = _say(model, variables, encoding, said)
    of_said = np.take_along_axis(logits, said[..., None], axis=-1)[..., 0]
    before_end = np.cumsum(said == decoding.EOS_ID, axis=1) == 0
    assert before_end.sum() > 10
    # Not argmax itself: of two that are all but alike, rounding chooses.
    behind = (logits.max(-1) - of_said)[before_end]
    assert behind.max() < 1e-3 < np.std(logits)


@pytest.mark.parametrize("mark_ids", [(5,), (5, 9)])
def test_constrained_probabilities_are_those_of_teacher_forcing(encoded, mark_ids):
    """Rebuild, a word at a time, the text that was decided on; at each word end the
    probability of the suffix must be the reported one."""
    model, variables, encoding, batch = encoded
    prompt, ends = batch["prompt"], batch["word_ends"]
    marks = np.asarray(
        decoding.constrained(
            model, variables, encoding, jnp.asarray(prompt), jnp.asarray(ends), mark_ids
        )
    )
    assert (marks[ends == 0] == 0).all()
    assert ((marks > 0) & (marks < 1))[ends == 1].all()
    assert (marks > 0.5).any() and (marks[ends == 1] < 0.5).any()

    length = prompt.shape[1] * 2
    said = np.zeros((len(prompt), length), np.int32)
    decisions = []
    for row, (pieces, is_end) in enumerate(zip(prompt, ends, strict=True)):
        text: list[int] = []
        for position, piece in enumerate(pieces[pieces != 0]):
            text.append(piece)
            if is_end[position]:
                decisions.append((row, len(text), position))
                if marks[row, position] > 0.5:
                    text.extend(mark_ids)
        said[row, : len(text)] = text
    logits = _say(model, variables, encoding, said)
    for row, at, position in decisions:
        odds = np.exp(logits[row, at] - logits[row, at].max())
        expected = odds[mark_ids[0]] / odds.sum()
        np.testing.assert_allclose(marks[row, position], expected, atol=2e-4)


def test_constrained_does_not_depend_on_neighbours(encoded):
    model, variables, encoding, batch = encoded
    run = jax.jit(
        lambda e, p, w: decoding.constrained(
            model, variables, decoding.Encoding(*e), p, w, (5,)
        )
    )
    parts = (encoding.feature_map, encoding.memory, encoding.memory_mask)
    whole = run(parts, batch["prompt"], batch["word_ends"])
    one = run(
        tiny.take(parts, slice(3, 4)), batch["prompt"][3:4], batch["word_ends"][3:4]
    )
    np.testing.assert_allclose(one[0], whole[3], atol=1e-5)
