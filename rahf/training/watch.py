"""A thread beside the loop, which sees what the loop waits for."""

import atexit
import sys
import threading
import time
from typing import Self

import jax

from rahf.training import exits, peers
from rahf.training.signals import Signals

#: Seconds between two looks.
_EVERY = 1.0
#: Seconds of waiting for a batch until the first warning; the next come after twice,
#: four times, ... as long.
INPUT_WARNING = 60.0
INPUT = "waiting for a batch"
#: Seconds for which all processes may wait for one step: at least this, and ten times
#: the longest step so far.
STUCK_AFTER = 600.0


class Watch:
    """Warns of a stalled input, and agrees with other processes on when to stop."""

    def __init__(self, signals: Signals):
        self._signals, self._peers = signals, peers.connect()
        self._now = ("starting", time.monotonic())  # what the loop does, since when
        self._longest = 0.0
        self._warned = 0.0
        self._waited, self._taken_at = 0.0, time.monotonic()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, _, error: BaseException | None, __) -> None:
        alone = not isinstance(error, exits.RunStopped | exits.NonFiniteLossError)
        if self._peers is not None and error is not None and alone:
            code = self._peers.failed(error)
            # JAX would wait at exit for the others, which wait for this process.
            atexit.register(exits.at_once, code, "")
        self._closed.set()
        self._thread.join()
        if self._peers is not None:
            self._peers.leave()

    def enter(self, doing: str) -> None:
        """Notes what the loop does from now on: "" for steps, or words for it."""
        before, since = self._now
        now = time.monotonic()
        if before == INPUT:
            self._waited += now - since
        if not before:
            self._longest = max(self._longest, now - since)
        self._now = doing, now

    def stops_at(self, step: int) -> str | None:
        """Returns why the run is to stop after this step, or None.

        All processes get the same answer for the same step; none waits for another.
        """
        if self._peers is not None:
            return self._peers.stops_at(step)
        return self._signals.received

    def take_input_wait(self) -> float:
        """Returns the share of time spent waiting for batches since the last call."""
        now = time.monotonic()
        share = self._waited / max(now - self._taken_at, 1e-9)
        self._waited, self._taken_at = 0.0, now
        return share

    def _run(self) -> None:
        while not self._closed.wait(_EVERY):
            doing, since = self._now
            seconds = time.monotonic() - since
            self._warn(doing, seconds)
            if self._peers is not None:
                limit = max(STUCK_AFTER, 10 * self._longest)
                stuck = seconds if not doing and seconds > limit else 0.0
                self._peers.look(doing, stuck, self._signals.received)

    def _warn(self, doing: str, seconds: float) -> None:
        if doing != INPUT or seconds < INPUT_WARNING:
            self._warned = 0.0
        elif seconds >= 2 * self._warned:
            self._warned = seconds
            print(
                f"\nwarning: process {jax.process_index()} has been waiting for a batch of "
                f"the training data for {seconds:.0f} s (is a disk or network slow, or "
                "config.input.workers too low?)",
                file=sys.stderr,
                flush=True,
            )
