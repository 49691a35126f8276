"""What a run does with records that cannot be used, and how many it met.

`config.input.bad_records` is "fail" (the default: the run stops at the first one) or
"skip": another record takes its place, and the run stops once there are more than
`config.input.bad_share` of them. Numbers are part of the input's state, so a run that
goes on counts on.
"""

import dataclasses
import zlib
from collections.abc import Callable, Sequence
from typing import Any

from absl import logging

POLICIES = ("fail", "skip")

# Of so many first records the share is taken all at once: one bad record among the
# first ten says nothing.
_FEWEST = 1000
# Records to try in place of a bad one.
_ATTEMPTS = 100
# So many are described; the others are only counted.
_DESCRIBED = 10


@dataclasses.dataclass(frozen=True)
class Policy:
    """What to do with a record that cannot be used.

    Attributes:
      skip: whether to go on without it.
      share: of the records, how many may be skipped before the run stops.
    """

    skip: bool = False
    share: float = 0.01

    @classmethod
    def from_config(cls, config) -> "Policy":
        """Reads `config.input`; raises ValueError where it says neither."""
        name = config.input.get("bad_records", "fail")
        share = config.input.get("bad_share", cls.share)
        if name not in POLICIES:
            raise ValueError(
                f"config.input.bad_records={name!r} is unknown; options: "
                f"{', '.join(POLICIES)}"
            )
        if not 0 <= share < 1:
            raise ValueError(f"config.input.bad_share={share} must lie in [0, 1)")
        return cls(name == "skip", float(share))

    def guard(self, make: Callable[..., Any], records: int = 0) -> "Guarded":
        """Wraps what makes an example, for grain.

        Args:
          make: takes the index of a record as its last argument.
          records: how many there are, if another one is to take a bad one's place.
        """
        return Guarded(make, records, self.skip)


@dataclasses.dataclass(frozen=True)
class ExampleResult:
    """An example, or None, and why records could not be used."""

    example: Any
    reasons: list[str]


@dataclasses.dataclass(frozen=True)
class Guarded:
    """Makes examples; see `Policy.guard`.

    Which record takes a bad one's place depends on its index alone, so shards,
    workers and a run that goes on agree without a word.
    """

    make: Callable[..., Any]
    records: int
    skip: bool

    def __call__(self, *place: int) -> ExampleResult:
        *before, index = place
        reasons = []
        for attempt in range(_ATTEMPTS if self.records else 1):
            if attempt:
                other = zlib.crc32(f"{place[-1]}/{attempt}".encode())
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
      policy: how many are too many.
      good, bad: how many there were.
    """

    def __init__(self, policy: Policy):
        self.policy = policy
        self.good = self.bad = 0

    def add(self, good: int, reasons: Sequence[str] = ()) -> None:
        """Counts records.

        Args:
          good: how many could be used.
          reasons: of those that could not, why.

        Raises:
          ValueError: more than the share are bad.
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
        """Returns what to log: nothing where the run does not skip."""
        return {"bad_records": float(self.bad)} if self.policy.skip else {}

    def get_state(self) -> dict[str, int]:
        return {"good": self.good, "bad": self.bad}

    def set_state(self, state: dict[str, Any]) -> None:
        self.good, self.bad = int(state["good"]), int(state["bad"])
