"""Layers joined between steps: nothing that is saved or measured knows of it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rahf.checkpoints import restore
from rahf.training import loop, optimizer, stacks
from rahf.weights import matching
from tests.support import quick_steps, tiny

LAYERS = 12  # of which the eleventh comes after the second


def _params(random):
    """A stack whose arrays are alike in pairs within a layer, and others."""
    draw = lambda *shape: jnp.asarray(random.normal(size=shape), jnp.float32)
    layer = lambda i: {
        "norm_0": {"scale": draw(16)},
        "norm_2": {"scale": draw(16)},
        "mlp": {"kernel": (i + 1) * draw(256, 130)},  # large enough to be factored
    }
    return {
        "encoder": {f"layers_{i}": layer(i) for i in range(LAYERS)},
        "head": {"conv_0": {"kernel": draw(2, 3)}, "conv_1": {"kernel": draw(3, 2)}},
        "table": draw(8, 8),
    }


def test_what_is_a_stack():
    groups = stacks.group(matching.flatten(_params(np.random.default_rng(0))))
    layers = [f"encoder/layers_{i}/norm_2/scale" for i in range(LAYERS)]
    assert groups.pop("encoder/layers_0/norm_2/scale") == layers
    assert {name: len(names) for name, names in groups.items()} == {
        "encoder/layers_0/norm_0/scale": LAYERS,
        "encoder/layers_0/mlp/kernel": LAYERS,
        "head/conv_0/kernel": 1,
        "head/conv_1/kernel": 1,
        "table": 1,
    }


@pytest.mark.parametrize("name", ["adamw", "adafactor", "muon"])
@pytest.mark.parametrize("relative", [False, True])
def test_every_array_is_updated_by_itself(name, relative):
    config = tiny.config()
    config.optimizer.update(name=name, relative=relative, weight_decay=0.1)
    config.optimizer.clip_norm = 1.0
    schedule = optimizer.make_schedule(config.schedule, 100)
    random = np.random.default_rng(0)
    params = _params(random)
    one = optimizer.make_optimizer(config.optimizer, schedule)
    both = stacks.Stacks(*optimizer.make_parts(config.optimizer, schedule), params)
    state = one.init(params)
    joined = both.join_params(params), both.join_state(state)
    update, update_joined = jax.jit(one.update), jax.jit(both.update)
    for _ in range(3):
        gradients = jax.tree.map(lambda x: x[::-1], _params(random))
        updates, state = update(gradients, state, params)
        params = optax.apply_updates(params, updates)
        updates, after = update_joined(
            both.join_params(gradients), joined[1], joined[0]
        )
        joined = optax.apply_updates(joined[0], updates), after
    found = both.split_params(joined[0]), both.split_state(joined[1])
    assert jax.tree.structure(found) == jax.tree.structure((params, state))
    for a, b in zip(*map(jax.tree.leaves, (found, (params, state))), strict=True):
        # Rounding, of which the products of Muon make more.
        atol = 1e-5 if name == "muon" else 1e-8
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=atol)


def test_checkpoints_and_evaluations_have_the_layers_one_by_one(tmp_path, monkeypatch):
    quick_steps.use(monkeypatch)
    seen, states = [], []
    config = tiny.config()
    config.training_steps, config.checkpoint.every_steps = 3, 2
    config.eval.every_steps = 2
    config.model.scan_layers = True
    config.model.t5.update(encoder_layers=2, decoder_layers=3)

    def make_step(config, mesh, shardings, stacks=None, kept=None):
        step = quick_steps.make_empty_step(config, mesh, shardings)
        return lambda state, batch: (states.append(state), step(state, batch))[1]

    monkeypatch.setattr(loop, "make_train_step", make_step)
    evaluate = lambda params: (seen.append(jax.device_get(params)), {})[1]
    loop.train(config, tmp_path, tiny.NoiseInput(config), evaluate)
    stack = states[0].params["t5/decoder/layers_0/mlp/wi/kernel"]
    assert stack.shape[0] == 3
    assert "t5/decoder/layers_1/mlp/wi/kernel" not in states[0].params
    expected = tiny.random_params(seen[0], config.seed)
    assert jax.tree.structure(seen[1]) == jax.tree.structure(expected)
    _, saved, step = restore.restore_for_inference(tmp_path)
    assert step == 3
    for found in (*seen, saved):
        jax.tree.map(np.testing.assert_array_equal, jax.device_get(found), expected)

    config.model.scan_layers, config.training_steps = False, 4  # and on without
    loop.train(config, tmp_path, tiny.NoiseInput(config))
    _, saved, step = restore.restore_for_inference(tmp_path)
    assert step == 4 and states[-1].params["t5"]["decoder"]["layers_1"]
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(saved), expected)
