"""Each rater's agreement with the others, of a round that is going on.

Measuring 30,000 answers takes a minute, so that it is done by another process, at low
priority, which reads the database itself: neither the store nor Python's lock is held.
What was found is kept until there are other answers, and a measurement starts only when
the last one is ten times as long ago as it took.
"""

import json
import os
import pathlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from rahf.annotation import agreement
from rahf.annotation.store import AnswerStore
from rahf.datasets.ratings.rating_files import ImageRatings

# The share of one core's time that may go into measuring.
_SHARE = 0.1
_PROGRAM = "import sys; from rahf.annotation import rater_agreement as r; r.main(*sys.argv[1:])"


def measure(store: AnswerStore) -> dict[str, dict[str, float]]:
    """Returns rater -> metric -> value, as `agreement.compute_agreement` has them.

    Images with known answers do not count. Empty if no image has two answers.
    """
    query = "SELECT image FROM images WHERE gold IS NOT NULL"
    known = {row["image"] for row in store.read(query)}
    rated: dict[str, ImageRatings] = {}
    aspects = {}
    for answer in store.answers():
        if answer.label is None or answer.image in known:
            continue
        row = answer.row()
        found = ImageRatings(answer.image, answer.prompt, answer.split, [])
        rated.setdefault(answer.image, found).ratings.append(row)
        aspects[answer.image] = answer.width / answer.height
    listed = [each for each in rated.values() if len(each.ratings) > 1]
    if not listed:
        return {}
    found = agreement.compute_agreement(listed, aspects=aspects, progress=False)
    return found.raters


def main(path: str) -> None:
    """Prints what `measure` finds in a database, as JSON."""
    os.nice(10)
    store = AnswerStore(pathlib.Path(path))
    try:
        print(json.dumps(measure(store)))
    finally:
        store.close()


def _run(path: pathlib.Path) -> dict[str, dict[str, float]]:
    words = (sys.executable, "-c", _PROGRAM, str(path))
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().rpartition("\n")[2])
    return json.loads(done.stdout)


class AgreementWatch:
    """What is known of the agreement of raters, measured anew when it may be.

    Args:
      store: the answers.
      run: measures a database, given its path.
      clock: the time in seconds.
    """

    def __init__(
        self,
        store: AnswerStore,
        *,
        run: Callable[[pathlib.Path], dict] = _run,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._store, self._measure, self._clock = store, run, clock
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._found: dict[str, Any] = {"raters": {}, "events": None, "error": None}
        self._next = 0.0

    def latest(self) -> dict[str, Any]:
        """Returns the last result at once, and starts a measurement if there is cause.

        Returns:
          `raters` as `measure` has them; `events`, the number of the last event that
          they know of, None before the first result; `running`, whether a measurement
          is; `error`, why the last one failed, or None.
        """
        [[events]] = self._store.read("SELECT COALESCE(MAX(number), 0) FROM events")
        with self._lock:
            running = self._thread is not None and self._thread.is_alive()
            stale = events != self._found["events"]
            if stale and not running and self._clock() >= self._next:
                work = (events,)
                self._thread = threading.Thread(
                    target=self._renew, args=work, name="agreement", daemon=True
                )
                self._thread.start()
                running = True
            return self._found | {"running": running}

    def wait(self) -> None:
        """Waits for a measurement that is going on."""
        if self._thread is not None:
            self._thread.join()

    def _renew(self, events: int) -> None:
        start = self._clock()
        try:
            raters, error = self._measure(self._store.path), None
        except Exception as failure:  # noqa: BLE001  the page says so
            raters, error = self._found["raters"], str(failure)
        end = self._clock()
        with self._lock:
            self._found = {"raters": raters, "events": events, "error": error}
            self._next = end + (end - start) / _SHARE
