"""The tokenizer: rounding to a codebook, and images of the same shape."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rahf.generators.muse import tokenizer
from rahf.generators.muse.tokenizer import Tokenizer, TokenizerConfig

LEVELS = (2, 5, 8)


def test_every_entry_has_a_number_and_back():
    ids = jnp.arange(2 * 5 * 8)
    entries = tokenizer.from_ids(ids, LEVELS)
    assert len(np.unique(np.asarray(entries), axis=0)) == 80
    assert entries.min() == -1 and entries.max() == 1
    np.testing.assert_array_equal(tokenizer.to_ids(entries, LEVELS), ids)
    # Of the first channel the levels alternate; the last changes slowest.
    np.testing.assert_allclose(entries[:3, 0], [-1, 1, -1])
    np.testing.assert_allclose(entries[[0, 79], 2], [-1, 1])


def test_latents_are_rounded_to_the_nearest_entry():
    latents = jax.random.normal(jax.random.key(0), (1000, 3)) * 2
    found = np.asarray(tokenizer.quantize(latents, LEVELS))
    entries = np.asarray(tokenizer.from_ids(jnp.arange(80), LEVELS))
    bounded = np.tanh(np.asarray(latents))
    nearest = np.abs(bounded[:, None] - entries).sum(-1).argmin(axis=1)
    np.testing.assert_allclose(found, entries[nearest], atol=1e-6)


def test_gradients_pass_the_rounding_as_if_it_was_not_there():
    latents = jnp.asarray([[0.3, -0.2, 1.1]])
    through = jax.grad(lambda x: tokenizer.quantize(x, LEVELS).sum())(latents)
    np.testing.assert_allclose(through, 1 - np.tanh(latents) ** 2, rtol=1e-5)


@pytest.mark.parametrize("stride", [2, 4, 8])
def test_tokens_show_the_image_that_is_reconstructed(stride):
    config = TokenizerConfig((3, 4), stride=stride, width=32, blocks=1)
    model, images = Tokenizer(config), jnp.zeros((2, 16, 16, 3))
    images = jax.random.uniform(jax.random.key(1), images.shape, minval=-1)
    params = model.init(jax.random.key(0), images)
    tokens = model.apply(params, images, method="tokens")
    assert tokens.shape == (2, 16 // stride, 16 // stride)
    assert 0 <= tokens.min() and tokens.max() < 12
    shown = model.apply(params, tokens, method="images")
    whole = jnp.clip(model.apply(params, images), -1, 1)
    np.testing.assert_allclose(shown, whole, atol=1e-5)


def test_depth_becomes_space():
    x = jnp.arange(8.0).reshape(1, 1, 2, 4)
    found = tokenizer.depth_to_space(x)[0, :, :, 0]
    np.testing.assert_array_equal(found, [[0, 1, 4, 5], [2, 3, 6, 7]])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"levels": (8, 1)}, r"levels=\(8, 1\): expected numbers of at least 2"),
        ({"stride": 6}, "stride=6: expected a power of 2"),
        ({"stride": 1}, "stride=1: expected a power of 2"),
    ],
)
def test_impossible_sizes_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        TokenizerConfig(**fields)
