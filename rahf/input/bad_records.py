"""Handles and counts records that cannot be used.

`config.input.bad_records` is "fail" (the default), which stops the run at the first
one, or "skip", which replaces it by another record and stops the run once more than
`config.input.bad_share` are bad. The counts are part of the input's state, so a resumed
run continues them.
"""

import dataclasses
import zlib
from collections.abc import Callable, Sequence
from typing import Any

from absl import logging

POLICIES = ("fail", "skip")

# The share is of at least this many records: one bad record among the first ten means
# nothing.
_FEWEST = 1000
# The number of records to try in place of a bad one.
_ATTEMPTS = 100
# The number of bad records to describe; the others are only counted.
_DESCRIBED = 10


@dataclasses.dataclass(frozen=True)
class Policy:
    """What to do with a record that cannot be used.

    Attributes:
      skip: whether to continue without it.
      share: the share of records that may be skipped before the run stops.
    """

    skip: bool = False
    share: float = 0.01

    @classmethod
    def from_config(cls, config) -> "Policy":
        """Reads `config.input`; raises ValueError if a value is invalid."""
        name = config.input.get("bad_records", "fail")
        share = config.input.get("bad_share", cls.share)
        if name not in POLICIES:
            raise ValueError(
                f"config.input.bad_records={name!r} is unknown; options: "
                f"{', '.join(POLICIES)}"
            )
        if not 0 <= share < 1:
            raise ValueError(f"config.input.bad_share={share} must be in [0, 1)")
        return cls(name == "skip", float(share))

    def guard(self, make: Callable[..., Any], records: int = 0) -> "Guarded":
        """Wraps a function that makes examples, for grain.

        Args:
          make: the function, whose last argument is the index of a record.
          records: the number of records, if another is to replace a bad one, else 0.
        """
        return Guarded(make, records, self.skip)


@dataclasses.dataclass(frozen=True)
class ExampleResult:
    """An example or None, and the reasons why records could not be used."""

    example: Any
    reasons: list[str]


@dataclasses.dataclass(frozen=True)
class Guarded:
    """Makes examples; see `Policy.guard`.

    The replacement of a bad record depends only on its index, so that shards, workers
    and resumed runs agree.
    """

    make: Callable[..., Any]
    records: int
    skip: bool

    def __call__(self, *position: int) -> ExampleResult:
        *before, index = position
        reasons = []
        for attempt in range(_ATTEMPTS if self.records else 1):
            if attempt:
                other = zlib.crc32(f"{position[-1]}/{attempt}".encode())
                index = other % self.records
            try:
                return ExampleResult(self.make(*before, index), reasons)
            except ValueError as error:
                if not self.skip:
                    raise
                reasons.append(str(error))
        return ExampleResult(None, reasons)


class Counter:
    """Counts the records of an input and stops it when too many are bad.

    Attributes:
      policy: the share of bad records that is allowed.
      good, bad: the numbers of records so far.
    """

    def __init__(self, policy: Policy):
        self.policy = policy
        self.good = self.bad = 0

    def add(self, good: int, reasons: Sequence[str] = ()) -> None:
        """Counts records.

        Args:
          good: the number of usable records.
          reasons: why each of the others could not be used.

        Raises:
          ValueError: more than the allowed share are bad.
        """
        self.good += good
        for reason in reasons:
            self.bad += 1
            if self.bad <= _DESCRIBED:
                logging.warning("skipped: %s", reason)
            if self.bad == _DESCRIBED:
                logging.warning("further bad records are only counted")
            seen = self.good + self.bad
            if self.bad > self.policy.share * max(seen, _FEWEST):
                raise ValueError(
                    f"{self.bad} of {seen} records are bad, more than "
                    f"config.input.bad_share={self.policy.share:g} of "
                    f"{max(seen, _FEWEST):,} allows; the last one: {reason}. Repair "
                    "the data, or raise config.input.bad_share"
                )

    def metrics(self) -> dict[str, float]:
        """Returns what to log; nothing unless bad records are skipped."""
        return {"bad_records": float(self.bad)} if self.policy.skip else {}

    def get_state(self) -> dict[str, int]:
        return {"good": self.good, "bad": self.bad}

    def set_state(self, state: dict[str, Any]) -> None:
        self.good, self.bad = int(state["good"]), int(state["bad"])
