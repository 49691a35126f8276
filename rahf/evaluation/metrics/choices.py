"""How often a score that learns from choices agrees with them."""

from typing import Any

import numpy as np

from rahf.evaluation.metrics.accumulator import Accumulator, finite
from rahf.evaluation.preferences import points


class ChoiceMetrics(Accumulator):
    """`accuracy` and `accuracy_without_ties` over pairs, and their number `n_compared`.

    Points are those of `rahf.evaluation.preferences`, where only equal scores are a tie.
    `update` takes scores float[B] and choices float[B, 2] (`rahf.input.pairs`), where
    rows 2k and 2k + 1 are a pair. `n` is the number of images, each of which has a row.
    """

    def compute(self) -> dict[str, float]:
        found = self._means(("accuracy", "accuracy_without_ties"))
        return found | {"n": len(self.rows), "n_compared": len(self.rows) // 2}

    def _row(
        self, prediction: np.ndarray, truth: Any, index: int, label: str
    ) -> dict[str, Any]:
        both = finite(prediction[[index, index ^ 1]], f"the scores in {label}")
        choice = float(finite(truth[index], f"the choice in {label}")[0])
        difference = float(both[0] - both[1])
        earned = float(points(np.array(difference), np.array(choice)))
        row = {
            "prediction": float(both[0]),
            "difference": difference,
            "choice": choice,
            "accuracy": earned,
        }
        return row if choice == 0.5 else row | {"accuracy_without_ties": earned}
