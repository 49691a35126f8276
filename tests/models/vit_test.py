"""The ViT: AugReg's names and counts, position embeddings at other sizes."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rahf.models import vit_stem
from rahf.models.vit import ViT, ViTConfig, resize_position_embedding


def _shapes(config):
    image = jnp.zeros((1, config.image_size, config.image_size, 3))
    init = lambda: nn.unbox(ViT(config).init(jax.random.key(0), image))
    return jax.eval_shape(init)["params"]


@pytest.mark.parametrize(
    "size, parameters", [("B", 86_090_496), ("L", 303_690_752), ("Ti", 5_717_952)]
)
def test_published_sizes(size, parameters):
    """AugReg's files hold the classifier too; these counts are without it, e.g.
    86,859,496 - 769,000 for B/16 at 384."""
    shapes = _shapes(ViTConfig.from_name(size, image_size=384))
    count = sum(x.size for x in jax.tree.leaves(shapes))
    expected = parameters
    if size == "Ti":  # the published count is at 224: 196 positions + 1, not 577
        expected = 5_524_416 + (577 - 197) * 192
    assert count == expected


def test_names_are_those_of_the_augreg_files():
    shapes = _shapes(ViTConfig.from_name("Ti", image_size=32, depth=1))
    names = {
        "/".join(key.key for key in path)
        for path, _ in jax.tree_util.tree_leaves_with_path(shapes)
    }
    block = "Transformer/encoderblock_0/"
    attention = block + "MultiHeadDotProductAttention_1/"
    assert names == {
        "cls",
        "embedding/kernel",
        "embedding/bias",
        "Transformer/posembed_input/pos_embedding",
        "Transformer/encoder_norm/scale",
        "Transformer/encoder_norm/bias",
        *(block + f"LayerNorm_{i}/{x}" for i in (0, 2) for x in ("scale", "bias")),
        *(
            block + f"MlpBlock_3/Dense_{i}/{x}"
            for i in (0, 1)
            for x in ("kernel", "bias")
        ),
        *(
            attention + f"{part}/{x}"
            for part in ("query", "key", "value", "out")
            for x in ("kernel", "bias")
        ),
    }
    assert shapes["Transformer"]["encoderblock_0"]["MultiHeadDotProductAttention_1"][
        "query"
    ]["kernel"].shape == (192, 3, 64)


def test_position_embeddings_resize_over_the_grid_only():
    """A ramp over the grid stays a ramp, and the class token's stays itself."""
    rows = jnp.repeat(jnp.arange(4.0), 4)
    embedding = jnp.concatenate([jnp.array([9.0]), rows])[None, :, None]
    same = resize_position_embedding(embedding, 4, class_token=True)
    assert same is embedding
    larger = resize_position_embedding(embedding, 8, class_token=True)[0, :, 0]
    assert larger[0] == 9.0
    grid = np.asarray(larger[1:]).reshape(8, 8)
    np.testing.assert_allclose(grid, np.repeat(grid[:, :1], 8, axis=1), atol=1e-6)
    np.testing.assert_allclose(np.diff(grid[1:-1, 0]), 0.5, atol=1e-6)


def test_takes_other_image_sizes():
    config = ViTConfig.from_name("Ti", image_size=32, depth=1)
    params = _shapes(config)
    larger = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    tokens = jax.eval_shape(ViT(config).apply, {"params": params}, larger)
    assert tokens.shape == (1, 17, 192)


def test_sizes_that_do_not_divide():
    with pytest.raises(ValueError, match="image_size=40 must be a multiple"):
        ViTConfig.from_name("B", image_size=40)
    with pytest.raises(ValueError, match="known: Ti, S, B, L"):
        ViTConfig.from_name("XXL")


def test_convolution_stem_gives_a_token_for_each_patch_and_sees_over_its_edge():
    config = ViTConfig(
        image_size=32,
        patch_size=8,
        width=16,
        depth=0,
        mlp_dim=16,
        num_heads=2,
        class_token=False,
        stem="convolutions",
    )
    model = ViT(config)
    image = jax.random.normal(jax.random.key(1), (1, 32, 32, 3))
    params = jax.jit(model.init)(jax.random.key(0), image)

    @jax.jit
    @jax.grad
    def moves(image):
        # One feature: their sum is the same whatever the image, by the last norm.
        return model.apply(params, image)[0, -1, 0]

    assert jax.eval_shape(model.apply, params, image).shape == (1, 16, 16)
    moved = np.abs(moves(image)[0]).sum(axis=-1)  # [32, 32]
    seen = moved > 1e-4 * moved.max()
    assert seen[24:, 24:].all() and seen[20:24, 20:].any()
    assert not moved[:16].any()  # and not the whole image


@pytest.mark.parametrize("patch", [8, 16, 32])
def test_pretrained_stem_gives_a_token_for_each_patch(patch):
    config = ViTConfig(
        image_size=64,
        patch_size=patch,
        width=16,
        depth=0,
        num_heads=2,
        class_token=False,
        stem="efficientnet_lite0",
    )
    images = jnp.zeros((2, 64, 64, 3))
    shapes = jax.eval_shape(ViT(config).init, jax.random.key(0), images)
    found = jax.eval_shape(ViT(config).apply, shapes, images)
    assert found.shape == (2, (64 // patch) ** 2, 16)
    assert set(shapes["params"]["embedding"]) >= {"network", "norm_8", "norm_32", "out"}


_FEATURES = {
    "stem": "efficientnet_lite0",
    "stem_output": "features",
    "patch_size": 32,
    "depth": 0,
    "class_token": False,
}


def test_the_features_of_a_network_are_all_of_the_encoder():
    config = ViTConfig(image_size=64, **_FEATURES)
    images = jnp.zeros((2, 96, 96, 3))
    shapes = jax.eval_shape(ViT(config).init, jax.random.key(0), images)
    assert set(shapes["params"]) == {"embedding"}
    assert set(shapes["params"]["embedding"]) == {"network"}
    assert "last" in shapes["params"]["embedding"]["network"]
    found = jax.eval_shape(ViT(config).apply, shapes, images)
    assert found.shape == (2, 9, 1280)


@pytest.mark.parametrize(
    "wrong",
    [
        {"stem": "convolutions"},
        {"depth": 1},
        {"class_token": True},
        {"patch_size": 16},
        {"stem_output": "tokens"},
    ],
)
def test_features_that_cannot_be(wrong):
    with pytest.raises(ValueError, match="config.model.vit.stem_output='"):
        ViTConfig(image_size=64, **{**_FEATURES, **wrong})


def test_maps_are_brought_to_the_grid_of_patches():
    rows = jnp.arange(8.0)[None, :, None, None] * jnp.ones((1, 8, 8, 1))
    np.testing.assert_allclose(vit_stem.to_grid(rows, 2)[0, :, 0, 0], [1.5, 5.5])
    assert vit_stem.to_grid(rows, 16).shape == (1, 16, 16, 1)
    np.testing.assert_array_equal(vit_stem.to_grid(rows, 8), rows)


@pytest.mark.parametrize("stem, patch", [("convolutions", 12), ("cnn", 8)])
def test_stem_that_cannot_be(stem, patch):
    with pytest.raises(ValueError, match="config.model.vit.stem='"):
        config = ViTConfig(image_size=24, patch_size=patch, stem=stem)
        jax.eval_shape(ViT(config).init, jax.random.key(0), jnp.zeros((1, 24, 24, 3)))
