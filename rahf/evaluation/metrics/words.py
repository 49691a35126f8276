"""How well the misaligned words of a prompt are found.

The positive class is "misaligned". A word is marked as misaligned if its
probability is above the target's `cut`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rahf.evaluation.metrics.accumulator import Accumulator, check_convention, finite


def precision_recall_f1(
    hits: int, alarms: int, misses: int, *, convention: str = "rahf"
) -> tuple[float, float, float]:
    """Returns precision, recall and F1 from counts of words.

    Args:
      hits: misaligned words found.
      alarms: aligned words marked as misaligned.
      misses: misaligned words not found.
      convention: decides the value if nothing is misaligned and nothing was marked:
        1 in "rahf", since the answer is perfect; 0 in "richhf", as in the first
        author's code. Any other undefined ratio is 0.
    """
    if not hits and not alarms and not misses:
        perfect = 1.0 if check_convention(convention) == "rahf" else 0.0
        return perfect, perfect, perfect
    precision = hits / (hits + alarms) if hits else 0.0
    recall = hits / (hits + misses) if hits else 0.0
    return precision, recall, 2 * hits / (2 * hits + alarms + misses)


def average_precision(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Returns the area under the precision-recall curve, without interpolation.

    Args:
      probabilities: float[N], of being misaligned; equal ones form one threshold.
      labels: int[N], 1 for misaligned; at least one must be 1.
    """
    probabilities = finite(probabilities, "the probabilities")
    positive = np.asarray(labels) > 0
    if positive.shape != probabilities.shape or not positive.any():
        raise ValueError(
            f"expected labels of shape {probabilities.shape} with at least one "
            f"misaligned word, got {positive.shape} with {int(positive.sum())}"
        )
    order = np.argsort(-probabilities, kind="stable")
    hits = np.cumsum(positive[order])
    # The last word of each run of equal probabilities is a threshold.
    ends = np.append(np.flatnonzero(np.diff(probabilities[order])), positive.size - 1)
    precision = hits[ends] / (ends + 1)
    recall = hits[ends] / hits[-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))


class WordMetrics(Accumulator):
    """Precision, recall and F1 of "misaligned", and average precision over words.

    `_micro` pools the words of all examples; `_mean` averages per-example values, so
    that long and short prompts weigh the same (the published protocol). `update` takes
    prediction float[B, T], the probability at each word's last piece, and truth
    `(word_ends[B, T], word_labels[B, T])`. Counts: examples `n`, words `n_words`,
    misaligned words `n_misaligned`.
    """

    @staticmethod
    def truth(batch: Mapping[str, Any], name: str) -> Any:
        del name  # the words of a prompt are the same for every target
        return np.asarray(batch["word_ends"]), np.asarray(batch["word_labels"])

    def compute(self) -> dict[str, float]:
        labels = np.array([x for row in self.rows for x in row["truth"]], np.int64)
        counts: dict[str, float] = {
            "n": len(self.rows),
            "n_words": labels.size,
            "n_misaligned": int(labels.sum()),
        }
        if not self.rows:
            return counts
        pooled = precision_recall_f1(
            *(sum(row[name] for row in self.rows) for name in _COUNTS),
            convention=self.convention,
        )
        results = dict(zip((f"{name}_micro" for name in _RATIOS), pooled, strict=True))
        results |= {f"{k}_mean": v for k, v in self._means(_RATIOS).items()}
        if labels.any():
            scores = np.array([x for row in self.rows for x in row["prediction"]])
            results["average_precision"] = average_precision(scores, labels)
        return results | counts

    def _row(
        self, prediction: np.ndarray, truth: Any, index: int, label: str
    ) -> dict[str, Any]:
        ends, labels = (np.asarray(side)[index] for side in truth)
        if not prediction[index].shape == ends.shape == labels.shape:
            raise ValueError(
                f"{label}: probabilities, word_ends and word_labels must have one "
                f"shape, got {prediction[index].shape}, {ends.shape}, {labels.shape}"
            )
        at = ends > 0
        scores = finite(prediction[index][at], f"the word probabilities in {label}")
        wanted = labels[at] > 0
        return recount(scores, wanted, cut=self.target.cut, convention=self.convention)


def recount(
    probabilities: Sequence[float] | np.ndarray,
    truth: Sequence[int] | np.ndarray,
    *,
    cut: float,
    convention: str,
) -> dict[str, Any]:
    """Returns the row of an example.

    Args:
      probabilities: of each word.
      truth: 1 for each misaligned word.
      cut: the probability above which a word is marked.
      convention: see `precision_recall_f1`.
    """
    scores, wanted = np.asarray(probabilities, np.float64), np.asarray(truth) > 0
    marked = scores > cut
    counts = (
        int((marked & wanted).sum()),
        int((marked & ~wanted).sum()),
        int((~marked & wanted).sum()),
    )
    ratios = precision_recall_f1(*counts, convention=convention)
    return (
        {"prediction": scores.tolist(), "truth": wanted.astype(int).tolist()}
        | dict(zip(_COUNTS, counts, strict=True))
        | dict(zip(_RATIOS, ratios, strict=True))
    )


_COUNTS = ("hits", "alarms", "misses")
_RATIOS = ("precision", "recall", "f1")
