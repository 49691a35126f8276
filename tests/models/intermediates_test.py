"""The model's named intermediates."""

import jax
import jax.numpy as jnp
import numpy as np

from rahf.models.intermediates import intermediates
from rahf.models.rahf import make_model
from rahf.models.t5_layers import attention_weights
from tests.support import tiny


def test_attention_weighs_as_jax_does():
    keys = jax.random.split(jax.random.key(0), 4)
    query, key, value = (jax.random.normal(k, (2, 5, 3, 4)) for k in keys[:3])
    bias = jax.random.normal(keys[3], (1, 3, 5, 5))
    mask = (jnp.arange(5) < 4)[None, None, None, :]
    weights = attention_weights(query, key, bias=bias, mask=mask)
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-5)
    assert not weights[..., 4].any()
    found = jnp.einsum("bhqn,bnhk->bqhk", weights, value)
    expected = jax.nn.dot_product_attention(
        query, key, value, bias=bias, mask=mask, scale=1.0
    )
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_they_are_those_of_a_prediction():
    config = tiny.config()
    model, batch, params = make_model(config), tiny.batch(config), tiny.params(config)
    found = jax.jit(lambda params: intermediates(model, params, batch))(params)
    size, patch = config.input.image_size, config.model.vit.patch_size
    side, t5 = size // patch, config.model.t5
    assert found["feature_map"].shape == (8, side, side, t5.embed_dim)
    words = found["words_to_patches"]
    length = config.input.text_length
    assert words.shape == (8, t5.encoder_layers, t5.num_heads, length, side, side)
    total = words.sum((-1, -2))
    assert (total > 0).all() and (total < 1).all()

    @jax.jit
    def tokens_and_map(params):
        bound = model.bind({"params": params})
        tokens = bound.encode_image(batch["image"])
        return tokens, bound.encode(tokens, batch["inputs"]).feature_map

    tokens, feature_map = tokens_and_map(params)
    np.testing.assert_allclose(found["image_tokens"], tokens, atol=1e-5)
    np.testing.assert_allclose(found["feature_map"], feature_map, atol=1e-5)
