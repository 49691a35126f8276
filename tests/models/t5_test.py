"""The T5 encoder-decoder: names, position buckets, causality, the cache, padding."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rahf.models.t5 import T5
from rahf.models.t5_layers import T5Config, relative_position_bucket

TINY = T5Config.from_name("tiny", vocab_size=48)


def _make(config, seed=0):
    model = T5(config)

    def everything(module, ids):
        x = module.embed(ids)
        mask = ids > 0
        return module.decode(ids, module.encode(x, mask), mask)

    ids = jnp.ones((1, 3), jnp.int32)
    init = lambda: nn.unbox(model.init(jax.random.key(seed), ids, method=everything))
    return model, jax.jit(init)()


def _jitted(model):
    return jax.jit(model.apply, static_argnames="method")


@pytest.mark.parametrize(
    "gated, arrays, parameters", [(True, 282, 247_577_856), (False, 257, 222_903_552)]
)
def test_base_has_the_published_arrays(gated, arrays, parameters):
    config = T5Config.from_name("base", gated=gated)
    shapes = jax.eval_shape(lambda: _make(config)[1])["params"]
    leaves = jax.tree.leaves(shapes)
    assert len(leaves) == arrays
    assert sum(x.size for x in leaves) == parameters
    layer = shapes["decoder"]["layers_11"]
    assert layer["encoder_decoder_attention"]["query"]["kernel"].shape == (768, 768)
    assert shapes["encoder"]["relpos_bias"]["rel_embedding"].shape == (12, 32)
    assert ("logits_dense" in shapes["decoder"]) == gated
    assert ("wi_0" in layer["mlp"]) == gated


def test_relative_position_buckets():
    """Worked by hand: 8 exact buckets a side, then logarithmic up to 128."""
    distance = jnp.array([0, -1, -7, -8, -127, -1000, 1, 7, 1000])
    buckets = relative_position_bucket(
        distance, bidirectional=True, num_buckets=32, max_distance=128
    )
    np.testing.assert_array_equal(buckets, [0, 1, 7, 8, 15, 15, 17, 23, 31])
    causal = relative_position_bucket(
        distance, bidirectional=False, num_buckets=32, max_distance=128
    )
    np.testing.assert_array_equal(causal, [0, 1, 7, 8, 31, 31, 0, 0, 0])


@pytest.mark.parametrize("gated", [False, True])
def test_decoder_is_causal_and_reads_the_memory(gated):
    model, variables = _make(dataclasses.replace(TINY, gated=gated))
    tokens = jax.random.randint(jax.random.key(1), (1, 6), 2, 48)
    memory = jax.random.normal(jax.random.key(2), (1, 5, 64))
    mask = jnp.ones((1, 5), bool)
    embedded = model.apply(variables, tokens, method=T5.embed)

    def logits(embedded, memory):
        bound = model.bind(variables)
        return bound._logits(bound.decoder(embedded, memory, mask)).sum(-1)[0]

    jacobian = jax.jit(jax.jacobian(logits, argnums=(0, 1)))
    by_input, by_memory = jacobian(embedded, memory)
    moves = jnp.abs(by_input).sum(axis=(1, 3))  # [out position, in position]
    assert (np.triu(moves, k=1) == 0).all()
    assert (np.diag(moves) > 0).all()
    assert (jnp.abs(by_memory).sum(axis=(1, 3)) > 0).all()


@pytest.mark.parametrize("gated", [False, True])
def test_cached_steps_equal_teacher_forcing(gated):
    model, variables = _make(dataclasses.replace(TINY, gated=gated))
    tokens = jax.random.randint(jax.random.key(1), (3, 7), 2, 48)
    memory = jax.random.normal(jax.random.key(2), (3, 5, 64))
    mask = jnp.arange(5)[None] < jnp.array([[5], [3], [1]])
    run = _jitted(model)
    whole = run(variables, tokens, memory, mask, method=T5.decode)
    start = lambda memory: model.apply(variables, memory, 9, method=T5.decode_start)
    cache = jax.jit(start)(memory)
    inputs = jnp.pad(tokens, ((0, 0), (1, 0)))
    for index in range(7):
        logits, cache = run(
            variables,
            inputs[:, index : index + 1],
            cache,
            jnp.full(3, index),
            mask,
            method=T5.decode_step,
        )
        np.testing.assert_allclose(logits[:, 0], whole[:, index], rtol=2e-4, atol=2e-4)
    # A few at once, each text from another place on, over what was cached there.
    at = jnp.array([0, 2, 4])
    places = at[:, None] + jnp.arange(3)
    logits, _ = run(
        variables,
        jnp.take_along_axis(inputs, places, axis=1),
        cache,
        at,
        mask,
        method=T5.decode_step,
    )
    expected = jnp.take_along_axis(whole, places[..., None], axis=1)
    np.testing.assert_allclose(logits, expected, rtol=2e-4, atol=2e-4)


def test_encoder_ignores_padding():
    model, variables = _make(TINY)
    x = jax.random.normal(jax.random.key(1), (1, 5, 64))
    run = _jitted(model)
    short = run(variables, x, jnp.ones((1, 5), bool), method=T5.encode)
    padded = jnp.pad(x, ((0, 0), (0, 4), (0, 0)), constant_values=7.0)
    mask = jnp.arange(9)[None] < 5
    long = run(variables, padded, mask, method=T5.encode)
    np.testing.assert_allclose(long[:, :5], short, atol=1e-5)


def test_bfloat16_keeps_float32_parameters_and_logits():
    config = dataclasses.replace(TINY, dtype=jnp.bfloat16)
    model, variables = T5(config), jax.eval_shape(lambda: _make(config)[1])
    assert {x.dtype for x in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    x = jnp.ones((1, 2, 64), jnp.bfloat16)
    mask = jnp.ones((1, 2), bool)
    ids = jnp.ones((1, 2), jnp.int32)
    encode = functools.partial(model.apply, method=T5.encode)
    decode = functools.partial(model.apply, method=T5.decode)
    assert jax.eval_shape(encode, variables, x, mask).dtype == jnp.bfloat16
    assert jax.eval_shape(decode, variables, ids, x, mask).dtype == jnp.float32


def test_unknown_size_names_the_known():
    with pytest.raises(ValueError, match="config.model.t5.size='huge'.*base"):
        T5Config.from_name("huge")
