"""How well a model knows which pieces of text an image shows."""

from typing import Any

import numpy as np

from rahf.evaluation.metrics.accumulator import Accumulator
from rahf.evaluation.metrics.words import average_precision


class WordPresenceMetrics(Accumulator):
    """The average precision of the prompt's pieces among the vocabulary's.

    It is averaged over images that show their whole prompt: for the others no label
    says what they show instead. `update` takes prediction float[B, V], the probability
    that the image shows each piece, and truth int[B, T], the prompt's pieces, negative
    in misaligned words and 0 after their end. Words that occur in every prompt are
    easy to find, so compare only runs on the same prompts.
    """

    def compute(self) -> dict[str, float]:
        means = self._means(["average_precision_mean"])
        whole = sum("average_precision_mean" in row for row in self.rows)
        return means | {"n": len(self.rows), "n_whole": whole}

    def _row(
        self, prediction: np.ndarray, truth: Any, index: int, label: str
    ) -> dict[str, Any]:
        pieces = np.asarray(truth)[index]
        has = np.zeros(prediction.shape[1], bool)
        has[pieces[pieces > 1]] = True
        if not has.any() or (pieces < 0).any():
            return {}
        return {"average_precision_mean": average_precision(prediction[index], has)}
