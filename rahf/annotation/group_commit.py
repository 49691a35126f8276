"""Many writers, one wait for the disk.

Steps that arrive while others are being written are written together, in one
transaction: a disk that takes 10 ms to sync then serves thousands a second, not a
hundred. One thread does it all, so that none waits for a lock.
"""

import concurrent.futures
import queue
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

# The most steps in one transaction, so that the first does not wait for ever.
_LARGEST = 256


class GroupCommit:
    """A thread that runs steps, many in one transaction.

    Args:
      transaction: makes a transaction, or within one of the same thread a part of it
        that can be undone alone.
      broken_off: whether the transaction of this thread has ended by itself.
    """

    def __init__(
        self,
        transaction: Callable[[], AbstractContextManager],
        broken_off: Callable[[], bool],
    ):
        self._transaction, self._broken_off = transaction, broken_off
        self._waiting: queue.SimpleQueue = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()

    def submit(self, step: Callable[[], Any]) -> concurrent.futures.Future:
        """Runs a step within a transaction.

        Returns:
          Its result or its error, once all that the step wrote is on disk; what a step
          wrote that raised is undone. If the transaction fails, all its steps do.
        """
        future: concurrent.futures.Future = concurrent.futures.Future()
        self._waiting.put((step, future))
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="group-commit")
                self._thread.start()
        return future

    def close(self) -> None:
        """Ends the thread, after all steps that were submitted."""
        self._waiting.put(None)
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        going_on = True
        while going_on:
            group = [self._waiting.get()]
            while len(group) < _LARGEST and not self._waiting.empty():
                group.append(self._waiting.get())
            going_on = None not in group
            # Not those whose request was given up meanwhile.
            steps = [x for x in group if x and x[1].set_running_or_notify_cancel()]
            if steps:
                self._commit(steps)

    def _commit(self, steps: list[tuple[Callable, concurrent.futures.Future]]) -> None:
        results = []
        try:
            with self._transaction():
                for step, future in steps:
                    try:
                        with self._transaction():
                            result = step()
                        results.append((future.set_result, result))
                    except Exception as error:
                        if self._broken_off():
                            raise
                        results.append((future.set_exception, error))
        except Exception as error:  # noqa: BLE001  for those who wait
            results = [(future.set_exception, error) for _, future in steps]
        for settle, value in results:
            settle(value)
