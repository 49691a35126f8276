"""The jitted step: what it does with a gradient that is not finite."""

import jax
import jax.numpy as jnp
import numpy as np

from rahf.models import learners, sharding
from rahf.training import steps
from tests.support import tiny


class _Toy:
    """Learns one matrix; the loss is the mean of its product with the batch."""

    def counts(self, batch):
        return {"overall": batch["weights"]["overall"].sum()}

    def loss(self, params, batch, counts, key):
        loss = (batch["x"] @ params["w"]).mean()
        return loss, {"overall": loss}

    def rate(self, name):
        return 1.0


learners.register("toy", lambda config: _Toy())


def _run(skip, values):
    """Takes a step for each value; returns the state and the steps' metrics."""
    config = tiny.config()
    config.learner = "toy"
    config.optimizer.skip_nonfinite = skip
    mesh = sharding.make_mesh(config, jax.devices()[:1])
    schedule = steps.make_schedule(config.schedule, config.training_steps)
    params = {"w": jnp.ones((3, 2))}
    state = steps.TrainState(
        jnp.int32(0),
        params,
        steps.make_optimizer(config.optimizer, schedule).init(params),
    )
    place = jax.tree.map(lambda _: jax.NamedSharding(mesh, jax.P()), state)
    step_fn, all_metrics = steps.make_train_step(config, mesh, place), []
    for value in values:
        batch = {"x": np.full((4, 3), value), "weights": {"overall": np.ones(4)}}
        state, metrics = step_fn(state, batch)
        all_metrics.append(metrics)
    return jax.device_get(state), jax.device_get(all_metrics)


def test_a_step_that_is_not_finite_is_not_applied():
    skipping, metrics = _run(3, [1.0, np.inf, np.nan, 2.0])
    plain, _ = _run(0, [1.0, 2.0])
    assert [bool(np.isfinite(each["loss"])) for each in metrics] == [1, 0, 0, 1]
    jax.tree.map(np.testing.assert_array_equal, skipping.params, plain.params)
    jax.tree.map(np.testing.assert_array_equal, skipping.opt_state, plain.opt_state)
    assert (skipping.step, plain.step) == (4, 2)
    spoilt, _ = _run(0, [1.0, np.nan])
    assert not np.isfinite(spoilt.params["w"]).any()


def test_skipping_keeps_what_a_checkpoint_holds():
    one, other = _run(3, [1.0])[0], _run(0, [1.0])[0]
    assert jax.tree.structure(one) == jax.tree.structure(other)
    jax.tree.map(np.testing.assert_array_equal, one, other)
