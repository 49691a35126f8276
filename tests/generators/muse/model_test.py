import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import muse_scenes
from rahf.generators.muse.model import MuseConfig, Transformer
from rahf.generators.muse.tokenizer import from_ids
from tests.support.tiny_muse import shrink

LEVELS = (3, 4)


def transformer(patch, blocks=1, grid=4):
    """Returns a transformer, its parameters, tokens and prompts."""
    c = shrink(muse_scenes.get_config())
    c.input.image_size = 8 * grid
    c.model.update(patch=patch, token_blocks=blocks)
    c.model.tokenizer.levels = LEVELS
    model = Transformer(MuseConfig.from_config(c))
    rng = np.random.default_rng(0)
    tokens = jnp.asarray(rng.integers(0, 13, (2, grid, grid)), jnp.int32)
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


def without_attention(params):
    """Returns the parameters with positions that do not see each other."""
    layers = {
        name: layer | {"attention": jax.tree.map(jnp.zeros_like, layer["attention"])}
        for name, layer in params["encoder"].items()
        if name.startswith("layers")
    }
    return params | {"encoder": params["encoder"] | layers}


def test_what_a_prompt_says_is_known_without_attention():
    model, params, tokens, text = transformer(2)
    deaf = {"params": without_attention(params)}
    found, other = (model.apply(deaf, tokens[:1], text[i : i + 1]) for i in (0, 1))
    assert jnp.abs(found - other).min() > 0


def where_a_token_shows(patch, blocks):
    """Returns the rows and the columns of 16 that change with the token at (6, 9)."""
    model, params, tokens, text = transformer(patch, blocks, grid=16)
    deaf = {"params": without_attention(params)}
    other = tokens.at[:, 6, 9].add(1) % 13
    change = jnp.abs(model.apply(deaf, tokens, text) - model.apply(deaf, other, text))
    change = np.asarray(change.max(axis=(0, -1))) > 1e-6
    return np.nonzero(change.any(axis=1))[0], np.nonzero(change.any(axis=0))[0]


@pytest.mark.parametrize("patch", [1, 2])
def test_a_token_shows_in_its_own_patch(patch):
    rows, columns = where_a_token_shows(patch, blocks=0)
    assert rows.tolist() == list(range(6, 6 + patch))
    assert columns.tolist() == list(range(10 - patch, 10))


@pytest.mark.parametrize("patch", [1, 2])
def test_neighbours_are_seen_without_attention(patch):
    rows, columns = where_a_token_shows(patch, blocks=1)
    # Two convolutions before the transformer and two after it, and whole patches within.
    assert 9 <= len(rows) <= 8 + 2 * patch and 9 <= len(columns) <= 8 + 2 * patch
    assert {4, 6, 8} <= {*rows} and {7, 9, 11} <= {*columns}


def test_codes_are_seen_by_their_values_too():
    model, params, tokens, text = transformer(2)
    table = params["token_embedding"]
    blind = params | {"token_embedding": jax.tree.map(jnp.zeros_like, table)}
    found = [
        model.apply({"params": blind}, jnp.full_like(tokens, code), text)
        for code in (0, 5)
    ]
    assert jnp.abs(found[0] - found[1]).max() > 1e-3


def test_a_masked_token_is_not_a_code():
    model, params, tokens, text = transformer(2)
    found = [
        model.apply({"params": params}, jnp.full_like(tokens, code), text)
        for code in (12, 0, 5)
    ]
    assert jnp.abs(found[0] - found[1]).max() > 1e-3
    assert jnp.abs(found[0] - found[2]).max() > 1e-3
