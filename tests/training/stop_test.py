"""Runs that are stopped, saved by the clock, or skip steps; no step is compiled."""

import os
import signal
import types

import numpy as np
import pytest

from rahf.checkpoints import restore
from rahf.checkpoints.metrics_log import read_metrics
from rahf.training import loop
from rahf.training.exits import NonFiniteLossError, RunStopped
from tests.support import quick_steps, tiny


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    quick_steps.use(monkeypatch)


def _config(**fields):
    config = tiny.config()
    config.training_steps = 9
    config.update_from_flattened_dict(
        {"checkpoint.every_steps": 4, "log.every_steps": 2, "eval.every_steps": 3}
        | {name.replace("__", "."): value for name, value in fields.items()}
    )
    return config


class _Input(tiny.NoiseInput):
    """Sends this process a signal while its run waits for a batch."""

    def __init__(self, config, at=None, number=signal.SIGTERM):
        super().__init__(config)
        self._at, self._number, self.taken = at, number, []

    def __next__(self):
        batch = super().__next__()
        self.taken.append(self._position)
        if self._position == self._at:
            os.kill(os.getpid(), self._number)
        return batch


def _steps(folder):
    return [row["step"] for row in read_metrics(folder)]


def test_a_signal_stops_after_the_step_and_the_same_command_goes_on(tmp_path):
    first = _Input(_config(), at=5)
    message = (
        r"stopped by SIGTERM at step 5 of 9, saved in .*; the same command goes on"
    )
    with pytest.raises(RunStopped, match=message):
        loop.train(_config(), tmp_path, first)
    assert restore.complete_steps(tmp_path) == [4, 5]
    assert _steps(tmp_path) == [2, 4, 5]
    second = _Input(_config())
    loop.train(_config(), tmp_path, second)
    assert first.taken + second.taken == list(range(1, 10))
    assert _steps(tmp_path) == [2, 4, 5, 6, 8, 9]


def test_a_signal_while_it_evaluates_or_begins(tmp_path, monkeypatch):
    def evaluate(params):
        os.kill(os.getpid(), signal.SIGINT)
        return {"plausibility/plcc": 0.5}

    with pytest.raises(RunStopped, match="stopped by SIGINT at step 4 of 9"):
        loop.train(_config(), tmp_path, _Input(_config()), evaluate)
    assert read_metrics(tmp_path)[1]["eval/plausibility/plcc"] == 0.5  # it is finished
    assert restore.complete_steps(tmp_path) == [4]
    make_state = loop.make_state

    def signalled(*args, **kwargs):
        os.kill(os.getpid(), signal.SIGTERM)
        return make_state(*args, **kwargs)

    monkeypatch.setattr(loop, "make_state", signalled)
    for folder, step in ((tmp_path, 5), (tmp_path / "new", 1)):
        with pytest.raises(RunStopped, match=f"stopped by SIGTERM before step {step}"):
            loop.train(_config(), folder, _Input(_config()))
    assert restore.complete_steps(tmp_path) == [4]
    assert not restore.complete_steps(tmp_path / "new")


def test_a_signal_in_the_last_step_lets_the_run_finish(tmp_path):
    loop.train(_config(), tmp_path, _Input(_config(), at=9))
    assert restore.complete_steps(tmp_path) == [8, 9]


def test_a_checkpoint_by_the_clock(tmp_path, monkeypatch):
    """Ten minutes a step; what the clock saves is kept as one of the latest only."""
    clock = [0.0]
    monkeypatch.setattr(loop, "time", types.SimpleNamespace(monotonic=lambda: clock[0]))

    class Slow(_Input):
        def __next__(self):
            clock[0] += 600.0
            return super().__next__()

    fields = {"checkpoint__every_steps": 100, "checkpoint__keep_latest": 9}
    values = iter([0.9, 0.1, 0.2])
    loop.train(
        _config(checkpoint__every_minutes=30.0, **fields),
        tmp_path / "timed",
        Slow(_config()),
        lambda _: {"plausibility/plcc": next(values)},
    )
    # At logged steps: 4 is the first one 30 minutes after the start, 8 after 4.
    assert restore.complete_steps(tmp_path / "timed") == [4, 8, 9]
    loop.train(
        _config(checkpoint__every_minutes=0.0, **fields),
        tmp_path / "off",
        Slow(_config()),
    )
    assert restore.complete_steps(tmp_path / "off") == [9]
    with pytest.raises(ValueError, match="config.checkpoint.every_minutes=-1"):
        loop.train(_config(checkpoint__every_minutes=-1.0), tmp_path, Slow(_config()))


def _poison(monkeypatch, *steps):
    """Makes the losses of some steps infinite."""
    make = quick_steps.make_empty_step

    def make_train_step(*args, kept):
        step_fn = make(*args)

        def step(state, batch):
            state, metrics = step_fn(state, batch)
            loss = np.inf if int(state.step) in steps else 0.5
            sums = {"loss_sum": {"overall": loss}, "weight_sum": {"overall": 1.0}}
            return state, metrics | {"loss": loss} | sums

        return step

    monkeypatch.setattr(loop, "make_train_step", make_train_step)


def test_steps_that_are_not_finite_are_skipped_and_counted(
    tmp_path, monkeypatch, capfd
):
    _poison(monkeypatch, 3, 4, 6)
    config = _config(optimizer__skip_nonfinite=2)
    loop.train(config, tmp_path, _Input(config))
    rows = {row["step"]: row for row in read_metrics(tmp_path)}
    skipped = {step: row["train/skipped_steps"] for step, row in rows.items()}
    assert skipped == {2: 0, 4: 2, 6: 1, 8: 0, 9: 0}
    assert "train/loss" not in rows[4] and rows[6]["train/loss"] == 0.5
    told = capfd.readouterr().err
    assert "warning: step 3: non-finite losses ['overall']" in told


def test_too_many_in_a_row_end_the_run(tmp_path, monkeypatch):
    _poison(monkeypatch, 3, 5, 6, 7)
    message = r"step 7: non-finite losses \['overall'\].*, 3 steps in a row; the last"
    config = _config(optimizer__skip_nonfinite=2)
    with pytest.raises(NonFiniteLossError, match=message):
        loop.train(config, tmp_path, _Input(config))
    with pytest.raises(NonFiniteLossError, match=r"step 3: .*0.00e\+00\); the last"):
        loop.train(_config(), tmp_path / "default", _Input(_config()))


def test_a_folder_that_vanishes_is_told(tmp_path):
    class Vanishing(_Input):
        def __next__(self):
            if self._position == 3:
                (tmp_path / "run").rename(tmp_path / "elsewhere")
            return super().__next__()

    with pytest.raises(OSError, match="run/checkpoints has vanished; was it deleted"):
        loop.train(_config(), tmp_path / "run", Vanishing(_config()))
