"""The stages of prediction: in parts or at once, the same."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rahf.inference import stages
from rahf.inference.predict_step import make_predict_step
from tests.support import tiny


@pytest.fixture(autouse=True)
def _one_device(monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: 1)


@pytest.mark.parametrize(
    ("batch", "most", "rows"), [(8, 3, 2), (8, 8, 8), (7, 4, 1), (1, 1, 1), (6, 5, 3)]
)
def test_parts_are_equal(batch, most, rows, monkeypatch):
    monkeypatch.setattr(stages, "PART_BYTES", most * 10 + 9)
    seen = []

    def function(x, y):
        seen.append(len(x))
        return {"sum": x + y, "x": (x,)}

    x = jnp.arange(batch * 3.0).reshape(batch, 3)
    found = jax.jit(lambda x: stages.in_parts(function, 10, x, x))(x)
    assert set(seen) <= {rows, batch} and rows in seen
    np.testing.assert_array_equal(found["sum"], 2 * x)
    np.testing.assert_array_equal(found["x"][0], x)


def test_only_cpus_take_parts(monkeypatch):
    monkeypatch.setattr(stages, "PART_BYTES", 20)
    run = jax.jit(lambda x: stages.in_parts(jnp.sin, 10, x))
    for platform, loops in (("cpu", True), ("tpu", False), ("cuda", False)):
        lowered = run.trace(jnp.zeros((4, 3))).lower(lowering_platforms=(platform,))
        assert ("while" in lowered.as_text()) == loops, platform


def test_a_prediction_in_parts_is_the_same(monkeypatch):
    config = tiny.config()
    params, batch = tiny.params(config), tiny.batch(config)
    found = {}
    for most in (1, 1 << 30):
        monkeypatch.setattr(stages, "PART_BYTES", most)
        found[most] = make_predict_step(config, (5,))(params, batch)
    for name, value in found[1].items():
        np.testing.assert_allclose(value, found[1 << 30][name], atol=1e-5)
