"""Batch norm: what learns, what moves, and what does not."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rahf.models import batch_norm, learners, resnet, sharding
from rahf.models.batch_norm import STATISTICS, BatchNorm
from rahf.models.vit import ViTConfig
from rahf.training import feedback, steps
from rahf.weights import matching
from tests.models.resnet_test import SMALL
from tests.support import tiny

_NORM = BatchNorm(jnp.float32, 1e-3)


def _x(seed: int = 0):
    return 3 + 2 * jax.random.normal(jax.random.key(seed), (8, 3, 3, 4))


def test_statistics_of_batch_norm_learn_nothing_and_all_else_does():
    params = _NORM.init(jax.random.key(1), _x())
    found = jax.grad(lambda params: (_NORM.apply(params, _x()) ** 2).sum())(params)
    leaves = nn.unbox(found)["params"].items()
    moved = {name: bool(value.any()) for name, value in leaves}
    assert moved == {"scale": True, "bias": True, "mean": False, "variance": False}


def test_trained_it_normalises_by_the_batch_and_says_what_it_had():
    params, x = (
        {"params": nn.unbox(_NORM.init(jax.random.key(1), _x()))["params"]},
        _x(),
    )
    out, told = _NORM.apply(params, x, mutable=[STATISTICS])
    np.testing.assert_allclose(out.mean((0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(out.std((0, 1, 2)), 1, atol=1e-3)
    np.testing.assert_allclose(told[STATISTICS]["mean"], x.mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(
        told[STATISTICS]["variance"], x.var((0, 1, 2)), rtol=1e-5
    )
    # By its parameters, it does nothing to numbers of mean 0 and variance 1.
    np.testing.assert_allclose(_NORM.apply(params, x), x, rtol=1e-3)
    moves = batch_norm.moves({"mean": jnp.ones(4), "w": jnp.ones(2)}, {"mean": 6.0}, 2)
    np.testing.assert_allclose(moves["mean"], 0.2)  # a tenth of the way to 6 / 2
    assert not moves["w"].any()


class _Toy:
    """A batch norm, which learns to give what it is asked for."""

    def __init__(self, config):
        self._mutable = [STATISTICS] if config.trained else []

    def counts(self, batch):
        return {"overall": batch["weights"]["overall"].sum()}

    def loss(self, params, batch, counts, key):
        out, told = _NORM.apply(
            {"params": params["norm"]}, batch["x"], mutable=self._mutable
        )
        errors = jnp.square(out - 1).mean((1, 2, 3))
        loss = (errors * batch["weights"]["overall"]).sum() / counts["overall"]
        return loss, {"overall": loss} | {
            name: {"norm": found} for name, found in told.items()
        }

    def rate(self, name):
        return 1.0


learners.register("batch_norm_toy", _Toy)


def _run(trained: bool, devices: int = 1, parts: int = 1):
    """Two steps; returns the parameters before and after, and the batches."""
    config = tiny.config()
    config.learner = "batch_norm_toy"
    config.optimizer.accumulation = parts
    with config.unlocked():
        config.trained = trained
    mesh = sharding.make_mesh(config, jax.devices()[:devices])
    schedule = steps.make_schedule(config.schedule, config.training_steps)
    params = {"norm": nn.unbox(_NORM.init(jax.random.key(1), _x()))["params"]}
    params["norm"]["mean"] = jnp.full(4, 2.0)
    before = jax.device_get(params)
    opt_state = steps.make_optimizer(config.optimizer, schedule).init(params)
    state = steps.TrainState(jnp.int32(0), params, opt_state)
    place = jax.tree.map(lambda _: jax.NamedSharding(mesh, jax.P()), state)
    with sharding.use(mesh, config):
        step = steps.make_train_step(config, mesh, place)
        state = jax.tree.map(jax.device_put, state, place)
        for seed in range(2):
            weights = {"overall": np.ones(8, np.float32)}
            batch = {"x": np.asarray(_x(seed)), "weights": weights}
            state, metrics = step(state, sharding.put_batch(batch, mesh))
    assert set(metrics["loss_sum"]) == {"overall"}
    return before["norm"], jax.device_get(state.params)["norm"]


def test_frozen_statistics_stay_bit_for_bit_and_trained_ones_follow_the_batches():
    before, frozen = _run(trained=False)
    for name in ("mean", "variance"):
        np.testing.assert_array_equal(frozen[name], before[name])
    assert (frozen["scale"] != before["scale"]).all()
    _, trained = _run(trained=True)
    expected = np.full(4, 2.0)
    for seed in range(2):
        expected += 0.1 * (np.asarray(_x(seed)).mean((0, 1, 2)) - expected)
    np.testing.assert_allclose(trained["mean"], expected, rtol=1e-5)
    assert (trained["variance"] > 1.2).all()


def test_eight_devices_equal_one():
    _, one = _run(trained=True)
    _, eight = _run(trained=True, devices=8)
    for name, value in one.items():
        np.testing.assert_allclose(eight[name], value, rtol=1e-5, err_msg=name)


def test_parts_of_a_batch_count_alike():
    _, whole = _run(trained=True)
    _, parts = _run(trained=True, parts=2)
    np.testing.assert_allclose(parts["mean"], whole["mean"], rtol=1e-5)


@pytest.mark.parametrize("how", ["trained", "frozen"])
def test_the_learner_of_feedback_tells_them_by_the_names_of_parameters(
    how, monkeypatch
):
    monkeypatch.setitem(resnet.VERSIONS, "resnet50", SMALL["resnet50"])
    config = tiny.config()
    config.model.vit.update(stem="resnet50", stem_statistics=how)
    learner, batch = feedback.make_learner(config), tiny.batch(config)
    params = nn.unbox(jax.eval_shape(learner.init, jax.random.key(0)))
    counts = jax.eval_shape(learner.counts, batch)
    _, told = jax.eval_shape(learner.loss, params, batch, counts, jax.random.key(0))
    found = matching.flatten(told.get(STATISTICS, {}))
    names = [name for name in matching.flatten(params) if "network/" in name]
    wanted = {name for name in names if name.endswith(("/mean", "/variance"))}
    assert wanted and set(found) == (wanted if how == "trained" else set())


def test_what_has_no_statistics_cannot_train_them():
    for stem, error in (("bit_r50x1", "no batch norm"), ("patch", "no batch norm")):
        with pytest.raises(ValueError, match=error):
            ViTConfig(stem=stem, stem_statistics="trained")
    with pytest.raises(ValueError, match="known: 'frozen', 'trained'"):
        ViTConfig(stem="resnet50", stem_statistics="moving")
