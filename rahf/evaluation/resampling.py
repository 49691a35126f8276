"""Metrics of many resamples of the same images at once, for bootstrap intervals.

A resample is a row of weights: how often each image was drawn. Each metric is computed
from a small statistic of every image, exactly as the accumulator would compute it from
the images drawn; with 2,000 resamples of 1,000 images all seven targets take seconds.

Legend: R resamples, N images.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from rahf import targets
from rahf.evaluation.metrics.accumulator import CONVENTIONS
from rahf.evaluation.metrics.heatmaps import FIXATED
from rahf.targets import Kind

Rows = Sequence[Mapping[str, Any]]
#: Resamples that are computed at a time: of 10,000 words, 16 MB.
_AT_ONCE = 200


def draw(count: int, resamples: int, seed: int = 0) -> np.ndarray:
    """Draws images with replacement.

    Args:
      count: N, the number of images.
      resamples: R.
      seed: the random seed; equal seeds draw the same images.

    Returns:
      int64[R, N], how often each image was drawn; each row sums to N.
    """
    rng = np.random.default_rng(seed)
    return rng.multinomial(count, np.full(count, 1 / count), size=resamples)


def interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Returns the percentile interval of float[R]; resamples without a value are NaN.

    Both ends are NaN if no resample has one.
    """
    if np.isnan(values).all():
        return float("nan"), float("nan")
    low, high = np.nanquantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def measure(
    target: targets.Target, rows: Rows, weights: np.ndarray, convention: str = "rahf"
) -> dict[str, np.ndarray]:
    """Returns every metric of a target in every resample.

    Args:
      target: the target.
      rows: N rows as its accumulator keeps them.
      weights: [R, N].
      convention: the convention of the rows.

    Returns:
      `{metric: float64[R]}`, NaN where a resample does not define the metric; kinds
      other than heatmaps, scores and words have none.
    """
    if target.kind not in _MEASURES or not rows:
        return {}
    parts = [
        _MEASURES[target.kind](rows, np.asarray(some, np.float64), convention)
        for some in _parts(weights)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _parts(weights: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(weights), _AT_ONCE):
        yield weights[start : start + _AT_ONCE]


def _heatmaps(rows: Rows, weights: np.ndarray, convention: str):
    del convention  # the rows follow it
    return {name: _mean(rows, name, weights) for name in ("mse", "mse_empty", *FIXATED)}


def _scores(rows: Rows, weights: np.ndarray, convention: str):
    del convention
    predicted, truth = (
        np.array([row[side] for row in rows], np.float64)
        for side in ("prediction", "truth")
    )
    total = weights.sum(1)
    return {
        "plcc": _correlation(predicted[None], truth[None], weights),
        "srcc": _correlation(
            _ranks(predicted, weights), _ranks(truth, weights), weights
        ),
        "mse": weights @ (predicted - truth) ** 2 / total,
    }


def _words(rows: Rows, weights: np.ndarray, convention: str):
    perfect = {"rahf": 1.0, "richhf": 0.0}[convention]
    assert convention in CONVENTIONS
    hits, alarms, misses = (
        weights @ np.array([row[name] for row in rows], np.float64)
        for name in ("hits", "alarms", "misses")
    )
    nothing = hits + alarms + misses == 0

    def share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
        found = np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
        return np.where(nothing, perfect, found)

    found = {
        "precision_micro": share(hits, hits + alarms),
        "recall_micro": share(hits, hits + misses),
        "f1_micro": share(2 * hits, 2 * hits + alarms + misses),
    }
    for name in ("precision", "recall", "f1"):
        found[f"{name}_mean"] = _mean(rows, name, weights)
    return found | {"average_precision": _average_precision(rows, weights)}


_MEASURES: Mapping[Kind, Callable[..., dict[str, np.ndarray]]] = {
    Kind.HEATMAP: _heatmaps,
    Kind.SCORE: _scores,
    Kind.WORDS: _words,
}


def _mean(rows: Rows, name: str, weights: np.ndarray) -> np.ndarray:
    """Averages a column over the images drawn that have it."""
    has = np.array([name in row for row in rows])
    values = np.array([row.get(name, 0.0) for row in rows], np.float64)
    total = weights @ has
    return np.where(total > 0, weights @ values / np.maximum(total, 1), np.nan)


def _correlation(a: np.ndarray, b: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Pearson's correlation of each row [R or 1, N]; 0 where a side is constant."""
    a, b = _centre(a, weights), _centre(b, weights)
    scale = np.sqrt((weights * a**2).sum(1)) * np.sqrt((weights * b**2).sum(1))
    product = (weights * a * b).sum(1)
    found = np.divide(product, scale, out=np.zeros_like(product), where=scale > 0)
    return np.clip(found, -1.0, 1.0)


def _centre(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    drawn = weights > 0
    low = np.where(drawn, values, np.inf).min(1, keepdims=True)
    high = np.where(drawn, values, -np.inf).max(1, keepdims=True)
    mean = (weights * values).sum(1, keepdims=True) / weights.sum(1, keepdims=True)
    return np.where(low == high, 0.0, values - mean)


def _ranks(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Ranks within each resample [R, N]; equal ones share the mean of their ranks."""
    _, group = np.unique(values, return_inverse=True)
    order = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[order], np.arange(group.max() + 1))
    counts = np.add.reduceat(weights[:, order], starts, axis=1)
    last = np.cumsum(counts, axis=1)
    return (last - (counts - 1) / 2)[:, group]


def _average_precision(rows: Rows, weights: np.ndarray) -> np.ndarray:
    """Of the words of the images drawn, pooled; see `metrics.words`."""
    chances = np.array([x for row in rows for x in row["prediction"]], np.float64)
    positive = np.array([x for row in rows for x in row["truth"]], np.float64)
    image = np.repeat(np.arange(len(rows)), [len(row["truth"]) for row in rows])
    if not chances.size:
        return np.full(len(weights), np.nan)
    order = np.argsort(-chances, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(chances[order])), chances.size - 1)
    of_word = weights[:, image[order]]
    marked = np.cumsum(of_word, axis=1)[:, ends]
    hits = np.cumsum(of_word * positive[order], axis=1)[:, ends]
    precision = hits / np.maximum(marked, 1)
    gains = np.diff(hits, axis=1, prepend=0.0)
    total = hits[:, -1]
    area = (gains * precision).sum(1)
    return np.where(total > 0, area / np.maximum(total, 1), np.nan)
