"""The heads: one interface, the published stack's geometry, the light one's cost."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rahf.models import heads
from rahf.models.heads import HEATMAP_HEADS, SCORE_HEADS, HeadConfig


def _count(shapes):
    return sum(x.size for x in jax.tree.leaves(shapes))


@pytest.mark.parametrize("name", HEATMAP_HEADS)
def test_heatmap_heads_share_an_interface(name):
    head = HEATMAP_HEADS[name](HeadConfig(name))
    x = jax.random.normal(jax.random.key(0), (2, 4, 4, 32))
    variables = jax.jit(head.init, static_argnums=2)(jax.random.key(1), x, 64)
    maps = jax.jit(head.apply, static_argnums=2)(variables, x, 64)
    assert maps.shape == (2, 64, 64) and maps.dtype == jnp.float32
    assert 0 < maps.min() and maps.max() < 1
    other = jax.eval_shape(lambda: head.apply(variables, x, 48))
    assert other.shape == (2, 48, 48)


@pytest.mark.parametrize("name", SCORE_HEADS)
def test_score_heads_share_an_interface(name):
    head = SCORE_HEADS[name](HeadConfig(name))
    x = jax.random.normal(jax.random.key(0), (3, 4, 4, 64))
    params = jax.jit(head.init)(jax.random.key(1), x)
    scores = jax.jit(head.apply)(params, x)
    drawn = {"dropout": jax.random.key(2)}
    again = head.apply(params, x, deterministic=False, rngs=drawn)
    np.testing.assert_allclose(again, scores, rtol=1e-5)  # nothing is dropped
    assert scores.shape == (3,) and scores.dtype == jnp.float32
    assert ((0 < scores) & (scores < 1)).all()


def test_a_linear_head_weighs_the_mean_over_the_grid():
    head = heads.LinearScoreHead(HeadConfig("linear", dropout=0.5))
    x = jax.random.normal(jax.random.key(0), (3, 4, 4, 64))
    params = nn.unbox(head.init(jax.random.key(1), x))
    np.testing.assert_array_equal(head.apply(params, x), 0.5)  # before it has learned
    kernel = jax.random.normal(jax.random.key(2), (64, 1))
    params["params"]["linear"] = {"kernel": kernel, "bias": jnp.array([0.1])}
    logits = np.asarray(x).mean((1, 2)) @ np.asarray(kernel)[:, 0] + 0.1
    scores = head.apply(params, x)
    np.testing.assert_allclose(scores, 1 / (1 + np.exp(-logits)), rtol=1e-5)
    drawn = {"dropout": jax.random.key(3)}
    dropped = head.apply(params, x, deterministic=False, rngs=drawn)
    assert (np.abs(dropped - scores) > 1e-3).all()


def test_heatmap_head_is_local():
    """A corner of the feature map must not move the opposite corner of the map."""
    for name, table in HEATMAP_HEADS.items():
        head = table(HeadConfig(name))
        x = jax.random.normal(jax.random.key(0), (1, 12, 12, 16))
        variables = jax.jit(head.init, static_argnums=2)(jax.random.key(1), x, 192)
        corner = lambda x: head.apply(variables, x, 192)[0, :16, :16].sum()  # noqa: B023
        moved = np.abs(jax.jit(jax.grad(corner))(x))[0].sum(-1)
        assert moved[0, 0] > 0, name
        assert moved[-1, -1] == 0, name


def test_paper_heads_have_the_published_widths():
    """By hand from the widths in the first author's release, at 24x24x768."""
    x = jnp.zeros((1, 24, 24, 768))
    key = jax.random.key(0)
    head = heads.PaperHeatmapHead(HeadConfig())
    shapes = jax.eval_shape(lambda: nn.unbox(head.init(key, x, 384)))["params"]
    conv = lambda a, b: 9 * a * b + b
    expected = conv(768, 768) + 768 + conv(768, 384) + 384
    inputs = 384
    for width in (768, 384, 384, 192):
        expected += conv(inputs, width) + 2 * conv(width, width) + 3 * width
        inputs = width
    expected += conv(192, 192) + conv(192, 1)
    assert _count(shapes) == expected

    head = heads.PaperScoreHead(HeadConfig())
    shapes = jax.eval_shape(lambda: nn.unbox(head.init(key, x)))["params"]
    expected, inputs = 0, 768
    for width in (768, 384, 192, 96, 48, 12):
        expected += conv(inputs, width) + width
        inputs = width
    expected += 576 * 12 * 512 + 512 + 512 * 128 + 128 + 128 + 1
    assert _count(shapes) == expected


def test_light_head_costs_a_hundredth_of_the_paper_head():
    """At the paper's geometry; docs/train.md quotes the figures."""

    def flops(name):
        head = HEATMAP_HEADS[name](HeadConfig(name))
        x = jax.ShapeDtypeStruct((1, 24, 24, 768), jnp.float32)
        params = jax.eval_shape(lambda x: head.init(jax.random.key(0), x, 384), x)
        lowered = jax.jit(lambda p, x: head.apply(p, x, 384)).lower(params, x)
        return lowered.cost_analysis()["flops"]

    assert flops("light") < flops("paper") / 100


def test_deconvolution_doubles_the_side():
    """Against its definition: each input pixel adds its flipped kernel around
    twice its place (PyTorch's stride 2, padding 1, output padding 1)."""
    deconv = heads._Deconv(HeadConfig(), 1)
    x = jax.random.normal(jax.random.key(0), (1, 3, 3, 1))
    variables = nn.unbox(jax.jit(deconv.init)(jax.random.key(1), x))
    kernel = np.asarray(variables["params"]["kernel"])[::-1, ::-1, 0, 0]
    canvas = np.zeros((9, 9))
    for row in range(3):
        for column in range(3):
            canvas[2 * row : 2 * row + 3, 2 * column : 2 * column + 3] += (
                float(x[0, row, column, 0]) * kernel
            )
    expected = canvas[1:7, 1:7]
    np.testing.assert_allclose(
        deconv.apply(variables, x)[0, :, :, 0], expected, atol=1e-5
    )


def test_depth_to_space_puts_channels_side_by_side():
    x = jnp.arange(4.0).reshape(1, 1, 1, 4)
    np.testing.assert_array_equal(
        heads.depth_to_space(x, 2)[0, :, :, 0], [[0, 1], [2, 3]]
    )
