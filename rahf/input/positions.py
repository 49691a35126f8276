"""Positions in the training data: what they mean to another number of processes.

A position is what `get_state` of a training input returns in one process. The grain
loader's is the number of examples that all processes took together, where its records
have indices; those of shards and of seqio belong to one process.
"""

from collections.abc import Sequence
from typing import Any

#: The key of a position that is a number of examples, the same in all processes.
EXAMPLES = "examples"
#: The key of earlier versions' positions, which count batches.
BATCHES = "iterator"


def is_global(state: Any) -> bool:
    """Returns whether a position serves any number of processes."""
    return isinstance(state, dict) and EXAMPLES in state


def counts_batches(state: Any) -> bool:
    """Returns whether a position is of no use with another batch size."""
    return isinstance(state, dict) and BATCHES in state and not is_global(state)


def batches_taken(state: dict[str, Any]) -> int:
    """Returns the number of batches that a position of an earlier version counts."""
    iterator = state[BATCHES]
    workers = iterator.get("iterators_in_use_states", [iterator])
    return sum(each["next_index"] for each in workers if each)


def spread(states: Sequence[Any], index: int) -> Any:
    """Returns the position of one of another number of processes.

    Args:
      states: the global positions of all processes that were.
      index: the index of a process that is.
    """
    first = states[0]
    counts = [each["records"] for each in states]
    # Together, the processes go on from the sums; the first one holds them.
    sums = {name: sum(each[name] for each in counts) for name in counts[0]}
    return first | {"records": sums if index == 0 else dict.fromkeys(sums, 0)}
