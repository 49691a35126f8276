"""Stacks as loops: what they compute, draw, hold and compile to."""

import dataclasses
import json
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rahf.checkpoints import changes
from rahf.models import sharding
from rahf.models.intermediates import intermediates
from rahf.models.rahf import make_model
from rahf.models.scanned_layers import scan_layers
from rahf.models.t5 import T5
from rahf.models.t5_layers import T5Config
from rahf.models.vit import ViT, ViTConfig
from rahf.training import steps
from tests.support import quick_steps, tiny

SIZES = {"mlp_dim": 16, "num_heads": 2}
T5_SIZES = SIZES | {"embed_dim": 8, "head_dim": 4, "vocab_size": 16}


def _vit(depth=3, **fields):
    config = ViTConfig(
        image_size=8, patch_size=4, width=8, depth=depth, **SIZES, **fields
    )
    image = jax.random.normal(jax.random.key(1), (2, 8, 8, 3))
    return ViT(config), lambda module: module(image)


def _t5(encoder=3, decoder=2, **fields):
    """Both stacks, the decoder reading the encoder's output."""
    config = T5Config(
        encoder_layers=encoder, decoder_layers=decoder, **T5_SIZES, **fields
    )
    ids = jnp.array([[3, 4, 5, 1], [7, 1, 0, 0], [8, 9, 1, 0], [6, 2, 4, 1]])

    def call(module):
        mask = ids > 0
        return module.decode(ids, module.encode(module.embed(ids), mask), mask)

    return T5(config), call


def _run(model, call):
    """Returns a function of the parameters, their gradient included, and parameters
    with which every one of them moves it."""
    shapes = jax.eval_shape(
        lambda: nn.unbox(model.init(jax.random.key(0), method=call))["params"]
    )
    rng = np.random.default_rng(0)
    draw = lambda x: rng.normal(x.ndim == 1, 0.4, x.shape).astype("f")
    params = jax.tree.map(draw, shapes)

    def loss(params):
        output = model.apply({"params": params}, method=call).astype(jnp.float32)
        return (output * jnp.cos(jnp.arange(output.size)).reshape(output.shape)).sum()

    return jax.value_and_grad(loss), params


def _assert_same(found, expected, tolerance=1e-5):
    """Up to rounding of each array's largest value.

    The bias of a key moves all logits of a query alike, so its gradient is nothing but
    rounding, and a step of Adam is as long in any case.
    """

    def check(path, one, other):
        if [part.key for part in path[-2:] if hasattr(part, "key")] == ["key", "bias"]:
            return
        scale = tolerance * np.abs(other).max()
        np.testing.assert_allclose(one, other, atol=scale, err_msg=str(path))

    jax.tree.map_with_path(check, found, expected)


def _scanned(model):
    return model.clone(config=dataclasses.replace(model.config, scan_layers=True))


@pytest.mark.parametrize(
    "model, call",
    [
        _vit(),
        _vit(remat=True),
        _t5(),
        _t5(gated=True, remat=True),
    ],
    ids=["vit", "vit-remat", "t5", "t5-gated-remat"],
)
def test_outputs_and_gradients_are_those_of_layers_one_by_one(model, call):
    run, params = _run(model, call)
    other, same = _run(_scanned(model), call)
    assert jax.tree.structure(params) == jax.tree.structure(same)
    expected, found = (jax.jit(f)(params) for f in (run, other))
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)
    assert all(np.any(leaf) for leaf in jax.tree.leaves(expected[1]))
    _assert_same(found[1], expected[1])


@pytest.mark.parametrize("make", [_vit, lambda d: _t5(d, 1), lambda d: _t5(1, d)])
def test_the_program_does_not_grow_with_depth(make):
    """Matrix products of forward and backward pass, the optimizer's not among them."""

    def products(depth, scan):
        model, call = make(depth)
        run, params = _run(_scanned(model) if scan else model, call)
        return jax.jit(run).lower(params).as_text().count("dot_general")

    assert products(2, scan=True) == products(5, scan=True)
    assert products(2, scan=False) < products(5, scan=False)


def test_matrices_are_copied_in_the_dtype_they_are_read_in():
    """Norms stay float32: rounded to bfloat16, their scales would be others."""
    model, call = _t5(dtype=jnp.bfloat16)
    run, params = _run(_scanned(model), call)
    text = jax.jit(run).lower(params).as_text()
    loops = re.findall(r"stablehlo\.while.*?: (.*)", text)
    assert any("3x8x16xbf16" in loop and "3x8xf32" in loop for loop in loops)
    assert not any("3x8x16xf32" in loop or "3x8xbf16" in loop for loop in loops)


@dataclasses.dataclass(frozen=True)
class _Config:
    dtype = jnp.float32
    remat: bool


class _Digit(nn.Module):
    """Adds its scale where its dropout keeps."""

    config: _Config

    @nn.compact
    def __call__(self, x, deterministic):
        scale = self.param("scale", nn.initializers.ones_init(), (1,))
        kept = nn.Dropout(0.5, deterministic=deterministic)(jnp.full(x.shape, 0.5))
        return x + scale * kept


class _Number(nn.Module):
    config: _Config

    @nn.compact
    def __call__(self, x, deterministic):
        layer = _Digit(self.config, parent=None)
        names = ["a", "b", "c"]
        return scan_layers(self, layer, names, x, deterministic=deterministic)


@pytest.mark.parametrize("remat", [False, True])
def test_each_layer_draws_its_own(remat):
    """Layers of scales 1, 10 and 100 leave their masks in the digits of the sum."""
    number = _Number(_Config(remat))
    params = {n: {"scale": jnp.array([s])} for n, s in zip("abc", (1.0, 10.0, 100.0))}

    def total(params, seed):
        rngs = {"dropout": jax.random.key(seed)}
        sums = number.apply({"params": params}, jnp.zeros(64), False, rngs=rngs)
        return sums.sum(), sums

    run = jax.jit(jax.value_and_grad(total, has_aux=True))
    (_, sums), slopes = run(params, 0)
    digits = np.stack([sums // 10**i % 10 for i in range(3)])
    assert set(np.unique(digits)) == {0, 1}
    assert (np.abs(digits.mean(1) - 0.5) < 0.25).all()
    for i, name in enumerate("abc"):  # the backward pass has the same masks
        assert slopes[name]["scale"][0] == digits[i].sum()
        assert (digits[i] != digits[i - 1]).sum() > 16
    np.testing.assert_array_equal(run(params, 0)[0][1], sums)
    assert (run(params, 1)[0][1] != sums).any()
    plain = number.apply({"params": params}, jnp.zeros(2), True)
    np.testing.assert_allclose(plain, 55.5)


def test_layers_are_gathered_one_at_a_time():
    """Cut along fsdp, a stack never lies whole on a device."""
    config = tiny.config()
    config.sharding.mesh.update(data=1, fsdp=4, model=2)
    model, call = _t5(5, 1)
    run, params = _run(_scanned(model), call)
    mesh = sharding.make_mesh(config)
    with sharding.use(mesh, config):
        boxed = jax.eval_shape(lambda: model.init(jax.random.key(0), method=call))
        placed = sharding.params_sharding(boxed["params"], params, mesh)
        compiled = jax.jit(run, in_shardings=(placed,)).lower(params).compile()
        value, slopes = compiled(jax.device_put(params, placed))
    text = compiled.as_text()
    assert "f32[5,2,8]" in text and "f32[5,8,16]" not in text  # wi: embed / 4, mlp / 2
    expected = jax.jit(_run(model, call)[0])(params)
    np.testing.assert_allclose(value, expected[0], rtol=1e-5)
    _assert_same(slopes, expected[1])


def _config(variant="multihead", **model):
    config = tiny.config(variant)
    config.task.targets = ("overall", "misaligned_words", "word_presence")
    config.input.update(image_size=16, text_length=16, target_length=16)
    config.model.update(word_presence=True, **model)
    config.model.vit.update(width=16, mlp_dim=16, depth=2, patch_size=8)
    config.model.t5.update(embed_dim=16, head_dim=8, num_heads=2, mlp_dim=16)
    config.model.t5.update(encoder_layers=2, decoder_layers=2)
    return config


def _step(config, state, batch, devices):
    mesh = sharding.make_mesh(config, devices)
    with sharding.use(mesh, config):
        _, shardings = steps.make_state(config, mesh, abstract=True)
        stacks = steps.make_stacks(config, mesh)
        step = steps.make_train_step(config, mesh, shardings, stacks)
        placed = steps.join(jax.device_put(state, shardings), stacks)
        after, metrics = step(placed, sharding.put_batch(batch, mesh))
        after = steps.split(after, stacks)
    assert jax.tree.map(lambda x: x.sharding.spec, after) == jax.tree.map(
        lambda place: place.spec, shardings
    )
    return jax.device_get((after, metrics))


@pytest.mark.parametrize("variant", ["multihead", "augmented"])
def test_a_run_may_change_over(variant):
    """A step from one state: layers one by one, then scanned, cut and recomputed."""
    one, other = (_config(variant, scan_layers=s, remat=s) for s in (False, True))
    other.sharding.mesh.update(data=2, fsdp=2, model=2)
    devices = jax.devices()
    mesh = sharding.make_mesh(one, devices[:1])
    with sharding.use(mesh, one):  # moments too are random, so that steps are smooth
        state, _ = quick_steps.make_state(one, mesh)
    state, batch = jax.device_get(state), tiny.batch(one)
    expected = _step(one, state, batch, devices[:1])
    found = _step(other, state, batch, devices)
    _assert_same(found, expected, tolerance=1e-4)  # eight devices add up otherwise


def test_resuming_does_not_ask_about_it(tmp_path):
    config = _config().to_dict()
    del config["model"]["scan_layers"]  # as in workdirs of earlier versions
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert changes.compare(tmp_path, _config(scan_layers=True)) == {}
    assert changes.compare(tmp_path, _config(scan_layers=False)) == {}


def test_only_the_train_step_scans():
    """And what a scan cannot show is shown without it."""
    config = _config(scan_layers=True)
    parts = lambda model: {model.config.vit.scan_layers, model.config.t5.scan_layers}
    assert parts(make_model(config)) == {False}
    model = make_model(config, training=True)
    assert parts(model) == {True}
    del config.model.scan_layers
    assert parts(make_model(config, training=True)) == {False}
    params = jax.eval_shape(lambda: tiny.params(config))
    show = lambda params: intermediates(model, params, tiny.batch(config))
    assert jax.eval_shape(show, params)["words_to_patches"].shape[:3] == (8, 2, 2)
