"""How well predicted scores match the raters' mean scores."""

import math
from typing import Any

import numpy as np

from rahf.evaluation.metrics.accumulator import Accumulator, finite


def plcc(prediction: np.ndarray, truth: np.ndarray) -> float:
    """Returns Pearson's linear correlation of two float[N], in [-1, 1].

    Returns 0 if either side is constant, as a single value is.
    """
    a, b = (_centre(side) for side in _pair(prediction, truth))
    scale = math.sqrt(np.sum(a**2)) * math.sqrt(np.sum(b**2))
    return float(np.clip(np.sum(a * b) / scale, -1.0, 1.0)) if scale > 0 else 0.0


def srcc(prediction: np.ndarray, truth: np.ndarray) -> float:
    """Returns Spearman's rank correlation of two float[N], in [-1, 1].

    Equal values share the mean of their ranks. Returns 0 if either side is constant.
    """
    prediction, truth = _pair(prediction, truth)
    return plcc(_ranks(prediction), _ranks(truth))


class ScoreMetrics(Accumulator):
    """`plcc`, `srcc` and `mse` over all examples, and their number `n`.

    `update` takes prediction and truth float[B].
    """

    def compute(self) -> dict[str, float]:
        if not self.rows:
            return {"n": 0}
        prediction = np.array([row["prediction"] for row in self.rows])
        truth = np.array([row["truth"] for row in self.rows])
        return {
            "plcc": plcc(prediction, truth),
            "srcc": srcc(prediction, truth),
            "mse": math.fsum((prediction - truth) ** 2) / len(truth),
            "n": len(self.rows),
        }

    def _row(
        self, prediction: np.ndarray, truth: Any, index: int, label: str
    ) -> dict[str, Any]:
        return {
            "prediction": float(
                finite(prediction[index], f"the prediction in {label}")
            ),
            "truth": float(finite(truth[index], f"the truth in {label}")),
        }


def _pair(prediction: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    prediction = finite(prediction, "the prediction")
    truth = finite(truth, "the truth")
    if prediction.shape != truth.shape or prediction.ndim != 1 or not prediction.size:
        raise ValueError(
            "expected two vectors of the same length, at least 1, got "
            f"{prediction.shape} and {truth.shape}"
        )
    return prediction, truth


def _centre(values: np.ndarray) -> np.ndarray:
    if values.min() == values.max():
        return np.zeros_like(values)
    return values - values.mean()


def _ranks(values: np.ndarray) -> np.ndarray:
    """Returns ranks from 1; equal values share the mean of the ranks they span."""
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[group]
