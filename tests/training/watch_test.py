"""What the thread beside the loop says of a stalled input."""

import time

from rahf.training import watch
from rahf.training.signals import Signals


def test_a_stalled_input_is_told_more_and_more_rarely(capsys):
    seen = watch.Watch(Signals())
    for seconds in range(0, 300, 10):
        seen._warn(watch.INPUT, float(seconds))
    told = capsys.readouterr().err
    for seconds in (60, 120, 240):
        assert f"waiting for a batch of the training data for {seconds} s" in told
    assert told.count("warning: ") == 3
    seen._warn("", 500.0)  # a step may take long
    assert not capsys.readouterr().err
    seen._warn(watch.INPUT, 60.0)
    assert "60 s" in capsys.readouterr().err


def test_the_thread_sees_what_the_loop_waits_for(capsys, monkeypatch):
    monkeypatch.setattr(watch, "_EVERY", 0.001)
    monkeypatch.setattr(watch, "INPUT_WARNING", 0.01)
    told = ""
    with watch.Watch(Signals()) as seen:
        seen.enter(watch.INPUT)
        while "warning" not in told:
            time.sleep(0.001)
            told += capsys.readouterr().err
        seen.enter("")
    assert 0 < seen.take_input_wait() <= 1
    assert seen.take_input_wait() == 0
