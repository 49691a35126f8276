"""What all metrics share: rows that are kept, merged and averaged once.

An average of batch averages depends on the batch size, and a running float sum on
the order of its terms. An accumulator therefore keeps one small row per example and
computes from all rows at the end, so neither batching nor sharding changes a result.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np

from rahf import targets

#: "rahf" is this project's convention; "richhf" reproduces the numbers of the first
#: author's PyTorch release, for comparison with published tables. docs/evaluate.md
#: lists the differences.
CONVENTIONS = ("rahf", "richhf")


def check_convention(convention: str) -> str:
    """Returns `convention`; raises ValueError if it is unknown."""
    if convention not in CONVENTIONS:
        raise ValueError(
            f"unknown metric convention {convention!r}; known: {', '.join(CONVENTIONS)}"
        )
    return convention


@dataclasses.dataclass
class Accumulator:
    """The rows of one target, and the metrics computed from them.

    Attributes:
      target: the target measured, a row of `rahf.targets`.
      convention: one of `CONVENTIONS`.
      rows: one JSON-able mapping per example, in order of arrival.
    """

    target: targets.Target
    convention: str = "rahf"
    rows: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    @classmethod
    def empty(cls, target: targets.Target, *, convention: str = "rahf") -> Self:
        """Returns an accumulator without examples."""
        return cls(target=target, convention=check_convention(convention))

    @staticmethod
    def truth(batch: Mapping[str, Any], name: str) -> Any:
        """Returns the truth of target `name` in a batch, as `update` expects it."""
        return np.asarray(batch["targets"][name])

    def update(
        self,
        prediction: np.ndarray,
        truth: Any,
        weights: np.ndarray | None = None,
        names: Sequence[str] | None = None,
    ) -> None:
        """Adds the examples of one batch.

        Args:
          prediction: float[B, ...], as the model returns it.
          truth: the labels, of the same leading length; see the subclass.
          weights: float[B]; an example counts if its weight is above 0 (padding and
            examples without this label have weight 0). None counts all.
          names: names of the examples for error messages; None numbers them.

        Raises:
          ValueError: the shapes differ, or a counted example contains NaN or infinity.
        """
        prediction = np.asarray(prediction)
        for index in range(len(prediction)):
            if weights is not None and not weights[index] > 0:
                continue
            name = names[index] if names is not None else len(self.rows)
            label = f"example {name} of target {self.target.name}"
            self.rows.append(self._row(prediction, truth, index, label))

    def merge(self, other: Self) -> Self:
        """Returns an accumulator with the examples of both; changes neither.

        Raises:
          ValueError: they measure different targets or by different conventions.
        """
        mine = (self.target.name, self.convention)
        theirs = (other.target.name, other.convention)
        if mine != theirs:
            raise ValueError(f"cannot merge metrics of {mine} with those of {theirs}")
        return dataclasses.replace(self, rows=self.rows + other.rows)

    def compute(self) -> dict[str, float]:
        """Returns `{metric: value}`.

        A metric that no example defines is absent, not NaN. Counts, whose names begin
        with `n`, say how many examples the averages are over.
        """
        raise NotImplementedError

    def _row(
        self, prediction: np.ndarray, truth: Any, index: int, label: str
    ) -> dict[str, Any]:
        raise NotImplementedError

    def _means(self, names: Sequence[str]) -> dict[str, float]:
        """Averages each named column over the rows that have it, with exact sums."""
        means = {}
        for name in names:
            column = [row[name] for row in self.rows if name in row]
            if column:
                means[name] = math.fsum(column) / len(column)
        return means


def finite(values: np.ndarray, label: str) -> np.ndarray:
    """Returns `values` as float64; raises ValueError if any is NaN or infinite."""
    values = np.asarray(values, np.float64)
    bad = values.size - int(np.isfinite(values).sum())
    if bad:
        raise ValueError(
            f"{label}: {bad} of {values.size} values are NaN or infinite; "
            "metrics need finite numbers"
        )
    return values
