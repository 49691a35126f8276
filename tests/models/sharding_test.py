"""Sharding: eight devices give one device's losses, however they are laid out."""

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from rahf.models import sharding
from rahf.training import steps
from tests.support import quick_steps, tiny


def _config(variant="multihead"):
    """With every part that a model may have, and a head of each kind."""
    config = tiny.config(variant)
    config.task.targets = ("implausibility", "overall", "misaligned_words")
    if variant == "multihead":
        config.task.targets += ("word_presence",)
        config.model.word_presence = True
    return config


def _place(state, shardings):
    return jax.tree.map(
        lambda x, place: jax.device_put(np.asarray(x), place), state, shardings
    )


def _run(config, devices, start=None):
    """Three steps from a state, or from a new one.

    Returns:
      Loss and gradient norm of each step in turn; the first state on the host; the last.
    """
    mesh = sharding.make_mesh(config, devices)
    with sharding.use(mesh, config):
        if start is None:
            state, shardings = steps.make_state(config, mesh)
            start = jax.device_get(state)
        else:
            _, shardings = steps.make_state(config, mesh, abstract=True)
            state = _place(start, shardings)
        step = steps.make_train_step(config, mesh, shardings)
        values = []
        for seed in range(3):
            batch = sharding.put_batch(tiny.batch(config, seed), mesh)
            state, metrics = step(state, batch)
            values.append(float(metrics["loss"]))
            values.append(float(metrics["gradient_norm"]))
    return values, start, state


def _assert_same_run(values, expected):
    """Loss and gradient norm of three steps, in turn.

    The first step is the same sum in another order. After it Adam has divided
    gradients by themselves, and what is all but zero may have changed its sign.
    """
    np.testing.assert_allclose(values[:2], expected[:2], rtol=1e-5)
    np.testing.assert_allclose(values[2:], expected[2:], rtol=2e-2)


@pytest.fixture(scope="module")
def one_device():
    return _run(_config(), jax.devices()[:1])[:2]


@pytest.mark.parametrize("shape", [(8, 1, 1), (2, 2, 2)])
def test_eight_devices_equal_one(one_device, shape):
    expected, start = one_device
    config = _config()
    config.sharding.mesh.update(dict(zip(sharding.MESH_AXES, shape, strict=True)))
    # Where parameters are cut, they are also drawn in parts.
    cut = shape != (8, 1, 1)
    values, drawn, state = _run(config, jax.devices(), None if cut else start)
    _assert_same_run(values, expected)
    for a, b in zip(jax.tree.leaves(drawn), jax.tree.leaves(start), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    kernel = state.params["t5"]["encoder"]["layers_0"]["mlp"]["wi"]["kernel"]
    sizes = [size // n for size, n in zip(kernel.shape, shape[1:], strict=True)]
    assert list(kernel.addressable_shards[0].data.shape) == sizes
    moment = state.opt_state[1][0].mu["t5"]["encoder"]["layers_0"]["mlp"]["wi"]
    assert moment["kernel"].sharding == kernel.sharding


def _check_accumulation(config) -> None:
    mesh = sharding.make_mesh(config, jax.devices()[:1])
    with sharding.use(mesh, config):
        start, _ = quick_steps.make_state(config, mesh)
    start = jax.device_get(start)
    whole, *_ = _run(config, jax.devices()[:1], start)
    config.optimizer.accumulation = 4
    parts, *_ = _run(config, jax.devices()[:1], start)
    _assert_same_run(parts, whole)


def test_accumulation_equals_the_whole_batch():
    """Also where a target's examples all fall into one of the parts."""
    _check_accumulation(_config("augmented"))


def _pairs():
    """Two scores that learn from choices, one of them from ratings too."""
    config = tiny.config()
    config.task.targets = ("overall", "aesthetics", "overall_preference")
    config.task.targets += ("aesthetics_preference",)
    return config


def test_pairs_across_devices_equal_one_device():
    """Eight devices have a row each, and both images of a pair on different ones."""
    expected, start, _ = _run(_pairs(), jax.devices()[:1])
    config = _pairs()
    config.sharding.mesh.update(data=8)
    values, *_ = _run(config, jax.devices(), start)
    _assert_same_run(values, expected)


def test_accumulation_does_not_part_pairs():
    config = _pairs()
    _check_accumulation(config)
    config.optimizer.accumulation = 8
    mesh = sharding.make_mesh(config, jax.devices()[:1])
    with pytest.raises(ValueError, match="multiple of 16: pairs of two rows times"):
        sharding.check_batch(config, mesh)


def test_a_choice_teaches_a_score_that_is_there():
    config = _pairs()
    config.task.targets = ("aesthetics", "overall_preference")
    with pytest.raises(ValueError, match="'overall' learns; add that too"):
        tiny.params(config)


def test_mesh_errors_say_both_numbers():
    config = tiny.config()
    config.sharding.mesh.fsdp = 3
    with pytest.raises(ValueError, match="uses 6 devices of 8"):
        sharding.make_mesh(config)
    config = tiny.config()
    config.input.batch_size = 30
    mesh = sharding.make_mesh(config)
    with pytest.raises(
        ValueError, match="config.input.batch_size=30 must be a multiple of 8"
    ):
        sharding.check_batch(config, mesh)


def test_a_mesh_axis_that_does_not_divide_leaves_the_array_whole():
    config = tiny.config()
    config.sharding.mesh.update(data=1, fsdp=1, model=8)
    mesh = sharding.make_mesh(config)
    with sharding.use(mesh, config):
        _, shardings = steps.make_state(config, mesh, abstract=True)
    encoder = shardings.params["t5"]["encoder"]  # four heads, eight devices
    assert encoder["relpos_bias"]["rel_embedding"].spec == PartitionSpec(None, None)
    kernel = encoder["layers_0"]["mlp"]["wi"]["kernel"]
    assert kernel.spec == PartitionSpec("fsdp", "model")


def test_momentum_is_sharded_as_its_parameter():
    config = tiny.config()
    config.optimizer.name = "muon"  # of which Adam has a part
    config.sharding.mesh.update(data=2, fsdp=2, model=2)
    mesh = sharding.make_mesh(config)
    with sharding.use(mesh, config):
        _, shardings = steps.make_state(config, mesh, abstract=True)
    for name, places in (
        ("['t5']['encoder']['layers_0']['mlp']['wi']['kernel']", ("fsdp", "model")),
        ("['t5']['token_embedder']['embedding']", ("model", "fsdp")),
    ):
        found = [
            leaf.spec
            for path, leaf in jax.tree_util.tree_leaves_with_path(shardings.opt_state)
            if jax.tree_util.keystr(path).endswith(name)
        ]
        assert found and set(found) == {PartitionSpec(*places)}


@pytest.mark.parametrize("name", ["adafactor", "muon"])
def test_the_states_of_other_optimizers_have_places(name):
    config = tiny.config()
    config.task.targets = ("overall",)
    config.optimizer.name = name
    config.sharding.mesh.update(data=2, fsdp=2, model=2)
    mesh = sharding.make_mesh(config)
    with sharding.use(mesh, config):
        start, _ = quick_steps.make_state(config, mesh)
    values, *_ = _run(config, jax.devices(), jax.device_get(start))
    assert np.isfinite(values).all()
