"""Pairs of images and which of them people prefer, on their way to a batch.

A record of a pair is an ordinary record of one image and, besides,

    other                   a record of the other image, with the same prompt
    <score>_preference      the probability that people prefer this image to the other:
                            1 or 0, 0.5 for a tie, a share of several raters' votes
    margin                  optional: by how much the preferred image is better, in units
                            of the score; see `rahf.training.losses.preference_loss`

It becomes two examples, which stay beside each other in rows 2k and 2k + 1 of a batch. In
a mixture with such a task, every task's examples come two by two.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rahf import targets
from rahf.input.bad_records import ExampleResult
from rahf.targets import Kind

#: Fields of a record of a pair beside those of the image and its labels.
FIELDS = ("other", "margin")

_ROWS = 2
# The field of a side that has the uid of the other one.
_PARTNER = "partner"


def has_pairs(names: Sequence[str]) -> bool:
    """Returns whether examples with these targets come in pairs."""
    return bool(targets.select(names, Kind.PREFERENCE))


def rows_of(tasks: Sequence[Any]) -> int:
    """Returns how many rows tasks, objects with `targets`, give at a time."""
    return _ROWS if any(has_pairs(task.targets) for task in tasks) else 1


def check(config, tasks: Sequence[Any], batch_size: int, key: str) -> int:
    """Checks that pairs fit into batches; returns how many rows come at a time.

    Args:
      config: the training config.
      tasks: the tasks of a mixture, with `targets`.
      batch_size: rows of a batch, in one process.
      key: what sets them, for the error message.

    Raises:
      ValueError: the batch cannot hold whole pairs.
    """
    together = rows_of(tasks)
    if batch_size % together:
        raise ValueError(
            f"{key}: the {batch_size} rows of a process's batch must be even, as "
            f"config.task.name={config.task.name!r} has pairs of images"
        )
    return together


def sides(
    record: Mapping[str, Any], names: Sequence[str], task: str = ""
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the two records of a pair, each as seen from its own side.

    Args:
      record: the record of a pair, see above.
      names: the targets that are asked for.
      task: the name of the task, for error messages.

    Returns:
      The record of each image, in which the field of a PREFERENCE is float32[2]: the
      probability that this image is the preferred one, and the margin. A pair whose
      field is absent has no label for that target.

    Raises:
      ValueError: an image is missing, both are the same, their prompts differ, or a
        probability or the margin is out of range.
    """
    who = f"{f'task {task}, ' if task else ''}record {record.get('uid', '?')!r}: "
    other = record.get("other")
    if not isinstance(other, Mapping) or other.get("image") is None:
        raise ValueError(f"{who}the second image of the pair, 'other', is missing")
    if record.get("image") is None:
        raise ValueError(f"{who}the first image of the pair is missing")
    if record["prompt"] != other["prompt"]:
        raise ValueError(
            f"{who}the prompts of a pair must be equal, got {record['prompt']!r:.60} and "
            f"{other['prompt']!r:.60}"
        )
    if record["uid"] == other["uid"] or np.array_equal(record["image"], other["image"]):
        raise ValueError(
            f"{who}both images of the pair are the same (the second is "
            f"{other['uid']!r}); a choice between them says nothing"
        )
    first = {**record, _PARTNER: other["uid"]}
    second = {**other, _PARTNER: record["uid"]}
    margin = _margin(record, who)
    for row in targets.select(names, Kind.PREFERENCE):
        if record.get(row.field) is None:
            continue
        chance = _number(record[row.field])
        if not 0 <= chance <= 1:
            raise ValueError(
                f"{who}field {row.field!r} must be in [0, 1], the probability that the "
                f"first image is preferred, got {record[row.field]!r}"
            )
        first[row.field] = np.array([chance, margin], np.float32)
        second[row.field] = np.array([1 - chance, margin], np.float32)
    return first, second


def _margin(record: Mapping[str, Any], who: str) -> float:
    given = record.get("margin")
    margin = 0.0 if given is None else _number(given)
    if not 0 <= margin < float("inf"):
        raise ValueError(
            f"{who}field 'margin' must be at least 0, by how much the preferred image is "
            f"better, got {given!r}"
        )
    return margin


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")  # in no range


def join(results: Sequence[ExampleResult], whole: bool = True) -> ExampleResult:
    """Makes one result of ordinary examples that stay together, for grain's `batch`.

    Args:
      results: the results.
      whole: whether all are left out if one is, so that no row moves to another place.
    """
    made = tuple(each.example for each in results if each.example is not None)
    reasons = [reason for each in results for reason in each.reasons]
    lost = not made or (whole and len(made) < len(results))
    return ExampleResult(None if lost else made, reasons)


def features(
    record: Mapping[str, Any], rows: Sequence[targets.Target], where
) -> dict[str, np.ndarray]:
    """Returns the features of a side of a pair.

    Args:
      record: one of the records that `sides` returns.
      rows: the targets that it has.
      where: makes errors that name task and record.

    Returns:
      `choices` float32[n, 2], of each PREFERENCE among the targets, in their order, and
      `partner` str[1], the uid of the other side.

    Raises:
      ValueError: the record is not a side of a pair.
    """
    found = [record[row.field] for row in rows if row.kind is Kind.PREFERENCE]
    if _PARTNER not in record:
        raise where.error(
            "choices are of pairs of records, which config.input.loader='grain' reads, "
            f"got {found[0]!r:.60}"
        )
    return {
        "choices": np.array(found, np.float32).reshape(-1, 2),
        "partner": np.array([str(record[_PARTNER])], np.str_),
    }


def check_rows(example: Mapping[str, np.ndarray], other: Any) -> str:
    """Returns what is wrong with an example of a pair, "" if nothing.

    Args:
      example: task features in row r of a batch.
      other: those in row r ^ 1, or None.
    """
    mine, partner = (str(example[name][0]) for name in ("uid", "partner"))
    if other is None:
        return f"the other, {partner!r}, is not beside it in the batch"
    beside = str(other["uid"][0])
    if beside != partner or str(other.get("partner", [""])[0]) != mine:
        return f"the other, {partner!r}, is not beside it in the batch, but {beside!r}"
    return ""
