import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import muse_scenes
from rahf.generators.muse.model import MuseConfig, Transformer
from rahf.generators.muse.tokenizer import from_ids
from tests.support.tiny_muse import shrink

LEVELS = (3, 4)


def transformer(patch):
    """Returns one of 4 x 4 tokens, its parameters, tokens and a prompt."""
    c = shrink(muse_scenes.get_config())
    c.input.image_size = 32
    c.model.patch = patch
    c.model.tokenizer.levels = LEVELS
    model = Transformer(MuseConfig.from_config(c))
    rng = np.random.default_rng(0)
    tokens = jnp.asarray(rng.integers(0, 13, (2, 4, 4)), jnp.int32)
    text = jnp.asarray([[5, 6, 1, 0, 0], [7, 1, 0, 0, 0]], jnp.int32)
    params = model.init(jax.random.key(0), tokens, text)["params"]
    params = jax.tree.map(
        lambda x: getattr(x, "value", x), params, is_leaf=lambda x: hasattr(x, "value")
    )
    return model, params, tokens, text


@pytest.mark.parametrize("patch", [1, 2])
def test_a_code_has_a_logit_of_its_own_and_one_of_each_channels_value(patch):
    model, params, tokens, text = transformer(patch)
    rng = np.random.default_rng(1)
    size = 12 + 3 + 4
    bias = rng.normal(size=size).astype(np.float32)
    params["logits"] = {
        "kernel": jnp.zeros_like(params["logits"]["kernel"]),
        "bias": jnp.asarray(bias),
    }
    found = model.apply({"params": params}, tokens, text)
    assert found.shape == (2, 4, 4, 12)
    values = np.asarray(from_ids(jnp.arange(12), LEVELS))
    digits = np.round((values + 1) / 2 * (np.asarray(LEVELS) - 1)).astype(int)
    expected = bias[:12] + bias[12:15][digits[:, 0]] + bias[15:][digits[:, 1]]
    np.testing.assert_allclose(found, np.broadcast_to(expected, found.shape), atol=1e-5)


def test_padding_of_a_prompt_does_not_matter():
    model, params, tokens, text = transformer(2)
    found = model.apply({"params": params}, tokens, text)
    longer = jnp.pad(text, ((0, 0), (0, 3)))
    np.testing.assert_allclose(
        found, model.apply({"params": params}, tokens, longer), atol=1e-5
    )


def test_an_empty_prompt_says_nothing():
    model, params, tokens, text = transformer(2)
    none = jnp.zeros_like(text)
    found = model.apply({"params": params}, tokens, none)
    table = params["text_embedding"]
    other = params | {"text_embedding": jax.tree.map(lambda x: x + 1.0, table)}
    np.testing.assert_array_equal(found, model.apply({"params": other}, tokens, none))


def test_what_a_prompt_says_is_known_without_attention():
    model, params, tokens, text = transformer(2)
    encoder = params["encoder"]
    deaf = params | {"encoder": jax.tree.map(lambda x: x, encoder)}
    for name in [k for k in deaf["encoder"] if k.startswith("layers")]:
        attention = deaf["encoder"][name]["attention"]
        deaf["encoder"][name] = deaf["encoder"][name] | {
            "attention": jax.tree.map(jnp.zeros_like, attention)
        }
    found = model.apply({"params": deaf}, tokens[:1], text[:1])
    other = model.apply({"params": deaf}, tokens[:1], text[1:])
    assert jnp.abs(found - other).min() > 0


def test_a_masked_token_is_not_a_code():
    model, params, tokens, text = transformer(2)
    found = [
        model.apply({"params": params}, jnp.full_like(tokens, code), text)
        for code in (12, 0, 5)
    ]
    assert jnp.abs(found[0] - found[1]).max() > 1e-3
    assert jnp.abs(found[0] - found[2]).max() > 1e-3
