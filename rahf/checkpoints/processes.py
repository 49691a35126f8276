"""Decisions and sums that the processes of a run share."""

import json
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils


def first_decides(decide: Callable[[], Any]) -> Any:
    """Runs `decide` in the first process and returns its result in all of them.

    All processes must call this at the same point. An error that only the first process
    can find thus ends all of them at once, rather than leaving the others waiting.

    Args:
      decide: a function that returns JSON-serialisable data.

    Raises:
      ValueError: `decide` raised an error; the first process raises that error itself.
    """
    if jax.process_count() == 1:
        return decide()
    mine: dict[str, Any] = {}
    raised = None
    if jax.process_index() == 0:
        try:
            mine = {"value": decide()}
        except Exception as error:  # noqa: BLE001  raised below, once the others know
            raised = error
            mine = {"error": str(error)}
    answer = json.loads(_from_first(json.dumps(mine).encode()))
    if raised is not None:
        raise raised
    if "error" in answer:
        raise ValueError(answer["error"])
    return answer["value"]


def _from_first(data: bytes) -> bytes:
    """Returns the bytes that the first process passed."""
    length = int(multihost_utils.broadcast_one_to_all(np.int32(len(data))))
    buffer = np.zeros(length, np.uint8)
    if jax.process_index() == 0:
        buffer[:] = np.frombuffer(data, np.uint8)
    return np.asarray(multihost_utils.broadcast_one_to_all(buffer)).tobytes()


def sum_over_processes(values: dict[str, float]) -> dict[str, float]:
    """Returns the sums of all processes' counts; all must call it at the same step."""
    if jax.process_count() == 1 or not values:
        return values
    counts = np.array(list(values.values()), np.float32)
    total = multihost_utils.process_allgather(counts).sum(axis=0)
    return dict(zip(values, total.tolist(), strict=True))


def gather(data: bytes) -> list[bytes]:
    """Returns the bytes of every process, in order; all must call it at one point."""
    lengths = multihost_utils.process_allgather(np.int32(len(data)))
    buffer = np.zeros(max(int(lengths.max()), 1), np.uint8)
    buffer[: len(data)] = np.frombuffer(data, np.uint8)
    rows = multihost_utils.process_allgather(buffer)
    return [bytes(row[:length]) for row, length in zip(rows, lengths, strict=True)]
