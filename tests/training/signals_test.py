"""SIGTERM and SIGINT, sent to this very process."""

import os
import pty
import signal
import subprocess
import sys
import threading

import pytest

from rahf.training import exits, signals


@pytest.fixture(autouse=True)
def _hears_of_hangups():
    """Even if the tests run under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture(name="ends")
def _ends(monkeypatch):
    """What a second signal would end the process with, and an event for it."""
    ends, told = [], threading.Event()

    def at_once(code, line):
        ends.append((code, line))
        told.set()

    monkeypatch.setattr(exits, "at_once", at_once)
    ends_and_event = (ends, told)
    return ends_and_event


@pytest.mark.parametrize(
    ("number", "name", "code"),
    [
        (signal.SIGTERM, "SIGTERM", 143),
        (signal.SIGINT, "SIGINT", 130),
        (signal.SIGHUP, "SIGHUP", 129),
    ],
)
def test_the_first_is_noted_and_the_second_ends(
    number, name, code, ends, monkeypatch, capfd
):
    monkeypatch.setattr(signals, "_TOGETHER", -1.0)
    handler = signal.getsignal(number)
    found, told = ends
    with signals.Signals() as received:
        assert received.received is None
        os.kill(os.getpid(), number)
        assert received.received == name  # the main thread need not wait for it
        os.kill(os.getpid(), number)
        assert told.wait(60)
    assert [code for code, _ in found] == [code] and name in found[0][1]
    assert f"{name}: stopping once this step is done" in capfd.readouterr().err
    assert signal.getsignal(number) is handler


def test_what_a_scheduler_sends_twice_is_one(ends):
    found, _ = ends
    with signals.Signals() as received:
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGTERM)
        assert received.received == "SIGTERM"
    assert not found


def test_nohup_is_respected(monkeypatch):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals.Signals() as received:
            os.kill(os.getpid(), signal.SIGHUP)
            assert received.received is None
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


#: Waits for the end of its terminal, and then goes on to write, as a progress bar does.
HUNG_UP = """
import pathlib, sys, time
from rahf.training.signals import Signals
with Signals() as signals:
    print("begins", flush=True)
    end = time.monotonic() + 60
    while not signals.received and time.monotonic() < end:
        time.sleep(0.01)
    print("goes on", flush=True)
    print("goes on", file=sys.stderr, flush=True)
pathlib.Path(sys.argv[1]).write_text(signals.received)
"""


def test_a_closed_terminal_does_not_break_what_is_saved(tmp_path):
    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", HUNG_UP, f"{tmp_path}/end"]
    process = subprocess.Popen(command, stdout=theirs, stderr=theirs)
    os.close(theirs)
    assert b"begins" in os.read(ours, 100)
    os.close(ours)
    process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=60) == 0
    assert (tmp_path / "end").read_text() == "SIGHUP"


def test_outside_the_main_thread_signals_are_left_alone():
    handler, seen = signal.getsignal(signal.SIGTERM), []

    def use():
        with signals.Signals() as received:
            seen.append((received.received, signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert seen == [(None, handler)]


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (exits.RunStopped("stopped by SIGTERM"), 75, "stopped by SIGTERM\n"),
        (exits.NonFiniteLossError("step 3"), "error: step 3", ""),
        (OSError(28, "No space left", "a/b"), "error: a/b: No space left", ""),
        (ChildProcessError("a worker ended"), "error: a worker ended", ""),
    ],
)
def test_a_run_that_does_not_finish_ends_with_a_line(error, code, line, capsys):
    with pytest.raises(SystemExit) as ended, exits.in_one_line("W"):
        raise error
    assert ended.value.code == code and capsys.readouterr().err == line
