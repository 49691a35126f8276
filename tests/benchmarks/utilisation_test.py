"""Utilisation: what counts as useful, and against what."""

import jax
import pytest

from rahf.benchmarks import utilisation
from rahf.benchmarks.traces import Traces
from tests.support import tiny


def test_useful_operations_are_those_of_the_step():
    config = tiny.config()
    found = utilisation.training_flops(config)
    exact = Traces(config).step(8, "").count({}).flops / 8
    assert found == pytest.approx(exact, rel=0.02)
    config.model.remat = True  # does more, none of it useful
    assert utilisation.training_flops(config) == found


def test_the_peak_is_that_of_all_devices(monkeypatch):
    monkeypatch.setattr(utilisation, "_SIDES", {"cpu": 64})
    assert 1e6 < utilisation.measure_peak() < 1e15
    monkeypatch.setattr(utilisation, "measure_peak", lambda dtype: 3.0)
    assert jax.device_count() == 8
    assert utilisation.machine_peak() == 3.0  # they share the cores of one machine


def test_a_run_counts_and_measures_once(monkeypatch):
    calls = []
    monkeypatch.setattr(utilisation, "machine_peak", lambda dtype: 200.0)
    monkeypatch.setattr(
        utilisation, "training_flops", lambda config: calls.append(1) or 50.0
    )
    share = utilisation.Utilisation(tiny.config())
    assert not calls
    assert [share(1.0), share(2.0)] == [0.25, 0.5] and calls == [1]
