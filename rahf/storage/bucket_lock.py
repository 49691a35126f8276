"""Keeps a bucket's folder to one process: an object that its holder keeps renewing.

A bucket has no lock that ends with its process, but writes on a condition: that the
object is still the one that was read (its generation). The holder rewrites the object
every `RENEW_SECONDS`. Whoever finds one watches it: if it is renewed, the folder is in
use; if not for `GIVEN_UP_SECONDS`, its process has died and the object is taken over.
Only the watcher's own clock counts. A holder that was suspended for so long finds that
its object has been replaced, and ends at once, as what it would write belongs to another.
"""

import contextlib
import json
import os
import secrets
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

from rahf import durable
from rahf.storage import in_one_line

RENEW_SECONDS = 15.0
GIVEN_UP_SECONDS = 75.0


@contextlib.contextmanager
def locked(folder: str, purpose: str) -> Iterator[None]:
    """Locks a folder in a bucket; see `rahf.storage.locked`.

    Raises:
      FolderInUseError: another process is using the folder; names its command.
      OSError: the folder cannot be written to, with what the store says.
    """
    about = json.loads(durable.describe_this_process(purpose))
    # In containers, all the rest may be the same.
    note = json.dumps(about | {"token": secrets.token_hex(8)}).encode()
    try:
        _check_bucket(folder)
        store = _open(folder)
        generation = _take(store, folder, note)
    except durable.FolderInUseError:
        raise
    except Exception as error:
        raise OSError(f"{folder} cannot be written to: {in_one_line(error)}") from error
    renewal = _Renewal(store, folder, note, generation)
    renewal.start()
    try:
        yield
    finally:
        renewal.end()


def _check_bucket(folder: str) -> None:
    """Asks for the bucket as Orbax does before it removes a step, perhaps hours later.

    The error of a missing permission, storage.buckets.get, names it.
    """
    from google.cloud import storage

    bucket = folder.removeprefix("gs://").partition("/")[0]
    client: Any = storage.Client()
    client.get_bucket(bucket, retry=None, timeout=20)


def _open(folder: str) -> Any:
    """Opens the folder in tensorstore, which writes the arrays, with few retries."""
    import tensorstore as ts

    few = ts.Context({"gcs_request_retries": {"max_retries": 3}})
    return ts.KvStore.open(f"{folder}/", context=few).result()


def _take(store: Any, folder: str, note: bytes) -> bytes:
    """Writes the object; returns its generation."""
    found = store.read(durable.LOCK_FILE).result()
    if found.state != "missing":
        holder = durable.describe_holder(found.value.decode("utf-8", "replace"))
        print(
            f"{folder} is locked ({holder}); waiting {GIVEN_UP_SECONDS:.0f} s to see "
            "whether that process is alive",
            file=sys.stderr,
        )
        found = _watch(store, folder, found)
    generation = store.write(
        durable.LOCK_FILE, note, if_equal=found.stamp.generation
    ).result()
    if not generation.generation:  # the condition failed
        raise durable.in_use(folder, "one that started at the same time")
    return generation.generation


def _watch(store: Any, folder: str, first: Any) -> Any:
    """Returns what is there once the holder is gone; raises if it is alive."""
    until = time.monotonic() + GIVEN_UP_SECONDS
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(left, RENEW_SECONDS))
        now = store.read(durable.LOCK_FILE).result()
        if now.state == "missing":  # it has ended
            return now
        if now.stamp.generation != first.stamp.generation:
            holder = durable.describe_holder(now.value.decode("utf-8", "replace"))
            raise durable.in_use(folder, holder)
    return first


class _Renewal(threading.Thread):
    """Rewrites the object until `end`, which removes it."""

    def __init__(self, store: Any, folder: str, note: bytes, generation: bytes):
        super().__init__(daemon=True, name="rahf-lock")
        self._store, self._folder, self._note = store, folder, note
        self._generation = generation
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.wait(RENEW_SECONDS):
            with contextlib.suppress(ValueError, OSError, RuntimeError):  # try again
                self._renew()

    def _renew(self) -> None:
        stamp = self._store.write(
            durable.LOCK_FILE, self._note, if_equal=self._generation
        ).result()
        if stamp.generation:
            self._generation = stamp.generation
            return
        # An answer that was lost on the way looks the same, but the object is ours.
        found = self._store.read(durable.LOCK_FILE).result()
        if found.state != "missing" and found.value == self._note:
            self._generation = found.stamp.generation
            return
        end_process(
            f"error: {self._folder} was taken over by another process while this one "
            "did not renew its lock; ending, so that the two do not overwrite each other"
        )

    def end(self) -> None:
        self._ended.set()
        self.join()
        with contextlib.suppress(ValueError, OSError, RuntimeError):
            self._store.write(
                durable.LOCK_FILE, None, if_equal=self._generation
            ).result()


def end_process(message: str) -> None:
    """Ends the process from any thread, without the saving that other ends do."""
    print(message, file=sys.stderr, flush=True)
    os._exit(1)
