"""The processes of a run keep an eye on each other, beside the steps.

They talk through the key-value store of JAX's coordination service, in a thread, so that
a step waits for nobody but its own collectives.
"""

import contextlib
import itertools
import json
import os
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import jax
from jax._src import distributed  # the client has no public name; Orbax does the same

from rahf.training import exits

#: Rounds, of about a second, between two signs of life.
_ROUNDS = 5
#: Seconds without a sign of life after which a process is dead. JAX itself takes 100,
#: and then aborts every process with a page of C++.
DEAD_AFTER = 60.0
#: Seconds that the first process, whose end ends the store, leaves others to read it.
_LINGER = 3.0
_LEFT = "left"
_COUNT = itertools.count()


def connect() -> "Peers | None":
    """Returns this process's view of the others; None if it is alone."""
    if jax.process_count() == 1:
        return None
    client = distributed.global_state.client
    return Peers(client, jax.process_index(), jax.process_count())


class Peers:
    """What a process knows of the others; `look` is called about every second."""

    def __init__(
        self,
        client: Any,
        index: int,
        count: int,
        *,
        clock: Callable[[], float] = time.monotonic,
        end: Callable[[int, str], None] = exits.at_once,
    ):
        """Begins.

        Args:
          client: JAX's distributed client, or what has its key-value methods.
          index: the index of this process.
          count: the number of processes.
          clock: returns seconds.
          end: ends this process, by an exit code and a line.
        """
        self._client, self._index, self._count = client, index, count
        self._clock, self._end = clock, end
        self._folder = f"rahf/{next(_COUNT)}/"
        self._name = f"process {index} of {count} (pid {os.getpid()} on "
        self._name += f"{socket.gethostname()})"
        self._lock = threading.Lock()
        self._step, self._round = -1, -1
        self._reason, self._last_step = "", None  # of an agreed stop
        self._told: set[str] = set()
        self._seen: dict[int, tuple[str, float]] = {}
        self._lost_at: float | None = None
        self._ends = False

    def stops_at(self, step: int) -> str | None:
        """Notes that a step was dispatched.

        Returns:
          Why all processes stop after it, or None.
        """
        with self._lock:
            self._step = step
            stops = self._last_step is not None and step >= self._last_step
            return self._reason if stops else None

    def look(self, doing: str, stuck: float, signal: str | None) -> None:
        """Tells the others how this process is, and hears how they are.

        Args:
          doing: what it is doing; "" for a step.
          stuck: the seconds that it has waited for a step; 0 if that is usual.
          signal: the signal that it received, if any.
        """
        self._round += 1
        try:
            self._exchange(doing, stuck, signal)
            self._lost_at = None
        except (RuntimeError, ValueError) as error:
            now = self._clock()
            self._lost_at = now if self._lost_at is None else self._lost_at
            if now - self._lost_at > DEAD_AFTER:
                self._end(
                    exits.PEER_ENDED,
                    f"error: process 0 of {self._count} has not answered for "
                    f"{DEAD_AFTER:.0f} s ({' '.join(str(error).split())[:100]}); "
                    "start all processes again",
                )

    def _exchange(self, doing: str, stuck: float, signal: str | None) -> None:
        beats = self._round % _ROUNDS == 0
        if beats:
            beat = [self._name, self._round, self._step, doing]
            self._set(f"beat/{self._index}", json.dumps(beat))
        if signal:
            self._tell("stop", f"{signal} in {self._name}")
        news = self._read("news")
        for what in ("failed", "ended"):
            if what in news:
                self._leave(what, news[what])
                return
        if "stop" in news and "steps" not in self._told:
            self._told.add("steps")
            self._agree(news["stop"])
        if beats and self._index == 0:
            self._judge(stuck)

    def _agree(self, reason: str) -> None:
        """Agrees with the others on the step to stop after: one past the farthest.

        The main thread waits in `stops_at` meanwhile, so that no process passes the
        step. None of them waits for a device there, so all come to the barrier.
        """
        with self._lock:
            self._set(f"steps/{self._index}", str(self._step))
            self._client.wait_at_barrier(f"{self._folder}stop", int(DEAD_AFTER * 500))
            steps = self._read("steps").values()
            self._reason, self._last_step = reason, 1 + max(map(int, steps))

    def _judge(self, stuck: float) -> None:
        """Finds processes that are dead, and a step that does not end."""
        now, beats = self._clock(), self._read("beat")
        for index in range(self._count):
            beat = beats.get(str(index), "")
            before, since = self._seen.get(index, (None, now))
            if beat != before or beat == _LEFT:
                self._seen[index] = beat, now
            elif now - since > DEAD_AFTER:
                name = json.loads(beat)[0] if beat else f"process {index}"
                why = f"{name} has given no sign of life for {DEAD_AFTER:.0f} s"
                self._tell("ended", why)
                return
        known = [json.loads(beat) for beat in beats.values() if beat != _LEFT]
        if stuck and not any(doing for _, _, _, doing in known):
            name, _, step, _ = min(known, key=lambda each: each[2])
            why = (
                f"no step ended for {stuck:.0f} s; {name} was last seen at step {step}"
            )
            self._tell("ended", why)

    def leave(self) -> None:
        """Tells the others that this process has done its part."""
        with contextlib.suppress(RuntimeError):
            self._set(f"beat/{self._index}", _LEFT)

    def failed(self, error: BaseException) -> int:
        """Tells the others that this process ends with an error, before it does.

        An error of a collective is the end of another process: it is then waited for
        until that one's name is known, which ends this process.
        """
        why = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        broken = _is_of_collective(error)
        if broken:
            deadline = self._clock() + DEAD_AFTER + 3 * _ROUNDS
            while self._clock() < deadline:
                time.sleep(0.1)
        self._ends = True
        with contextlib.suppress(RuntimeError):
            self._tell(
                "ended" if broken else "failed", f"{self._name} ended with {why}"
            )
        if self._index == 0:
            time.sleep(_LINGER)
        return exits.PEER_ENDED if broken else exits.ERROR

    def _leave(self, what: str, why: str) -> None:
        """Ends this process: another has "failed" by an error, or "ended" otherwise."""
        if self._ends:
            return
        if self._index == 0:
            time.sleep(_LINGER)
        line = f"error: {why}; {self._name} ends at step {self._step}"
        if what == "failed":  # the same command would fail again
            self._end(exits.ERROR, line)
        else:
            remedy = "Start all processes again: they go on from the last checkpoint"
            self._end(exits.PEER_ENDED, f"{line}. {remedy}")

    def _set(self, key: str, value: str) -> None:
        self._client.key_value_set(self._folder + key, value, allow_overwrite=True)

    def _tell(self, what: str, text: str) -> None:
        """Spreads a piece of news; the first of its kind is the one that counts."""
        if what in self._told:
            return
        try:
            self._client.key_value_set(f"{self._folder}news/{what}", text)
        except RuntimeError as error:
            if "ALREADY_EXISTS" not in str(error):
                raise
        self._told.add(what)

    def _read(self, folder: str) -> dict[str, str]:
        found = self._client.key_value_dir_get(f"{self._folder}{folder}/")
        return {key.rpartition("/")[2]: value for key, value in found}


def _is_of_collective(error: BaseException) -> bool:
    """Returns whether an error is that of a broken connection between processes."""
    broken = ("Gloo", "NCCL", "UNAVAILABLE", "DEADLINE_EXCEEDED", "Connection")
    return isinstance(error, RuntimeError | ValueError) and any(
        word in str(error) for word in broken
    )
