"""How often a score agrees with human choices between two images.

The rules are those of Pick-a-Pic's evaluation (Kirstain et al., "Pick-a-Pic: An Open
Dataset of User Preferences for Text-to-Image Generation", 2023, and its published
script): a score calls a tie if its two values differ by no more than a threshold.
It earns one point for agreeing with people, half a point if either called a tie and
the other did not, and none for the opposite choice. The threshold is chosen on other
pairs, the validation split.
"""

import dataclasses

import numpy as np

from rahf.evaluation.metrics.accumulator import finite

#: Pick-a-Pic tries these differences of the two images' probabilities, the softmax
#: of their scores: |p0 - p1| = tanh(|s0 - s1| / 2).
PICKAPIC_DIFFERENCES = tuple(i / 10 for i in range(11))


@dataclasses.dataclass(frozen=True)
class PreferenceAgreement:
    """How well a score agrees with human choices.

    Attributes:
      accuracy: mean points per pair.
      low, high: ends of its bootstrap interval.
      accuracy_without_ties: accuracy over the pairs that people did not call a tie,
        by the sign of the difference alone.
      threshold: differences up to this are called ties.
      ties_called: share of pairs that the score called a tie.
      n_compared, n_ties, n_prompts: numbers of pairs, of pairs that people called a
        tie, and of prompts.
    """

    accuracy: float
    low: float
    high: float
    accuracy_without_ties: float | None
    threshold: float
    ties_called: float
    n_compared: int
    n_ties: int
    n_prompts: int


def points(
    differences: np.ndarray, labels: np.ndarray, threshold: float = 0.0
) -> np.ndarray:
    """Returns the points each pair earns.

    Args:
      differences: float[N], the first image's score minus the second's.
      labels: float[N], 1 where people chose the first, 0 the second, 0.5 a tie.
      threshold: differences up to this, of either sign, are ties.

    Returns:
      float64[N], each 0, 0.5 or 1.
    """
    said = np.where(np.abs(differences) <= threshold, 0.5, (differences > 0) * 1.0)
    # Same: 1. Opposite: 0. A tie against a choice: 0.5. That is 1 - distance.
    return 1 - np.abs(said - labels)


def choose_threshold(
    differences: np.ndarray, labels: np.ndarray, *, candidates: str = "all"
) -> float:
    """Returns the threshold with the highest accuracy; the smallest if several tie.

    Args:
      differences: float[N] of the validation pairs.
      labels: float[N].
      candidates: "all" tries 0 and every difference that occurs; "pickapic" the
        eleven of Pick-a-Pic's script, for scores that are logits.
    """
    differences = finite(differences, "the scores of the pairs to tune on")
    if candidates == "pickapic":
        # Stay below 1, where arctanh is infinite.
        shares = np.minimum(PICKAPIC_DIFFERENCES, np.nextafter(1.0, 0.0))
        tried = 2 * np.arctanh(shares)
        accuracies = [points(differences, labels, each).mean() for each in tried]
        return float(tried[int(np.argmax(accuracies))])
    # In order of size, calling the first k pairs ties changes only those k pairs.
    order = np.argsort(np.abs(differences), kind="stable")
    sizes = np.abs(differences)[order]
    decided = points(differences, labels, -1.0)[order]
    gains = np.cumsum(1 - np.abs(0.5 - labels[order]) - decided)
    last = np.append(sizes[1:] > sizes[:-1], True)  # equal sizes go together
    tried = np.append(0.0, sizes[last])
    at_zero = gains[sizes == 0][-1] if (sizes == 0).any() else 0.0
    return float(tried[int(np.argmax(np.append(at_zero, gains[last]).round(6)))])


def bootstrap(
    values: np.ndarray,
    groups: np.ndarray,
    *,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Returns the percentile bootstrap interval of a mean.

    Whole groups are drawn, with replacement, since pairs of one prompt are not
    independent.

    Args:
      values: float[N].
      groups: [N], the group of each value.
      resamples: the number of resamples.
      level: the share of resampled means inside the interval.
      seed: the random seed.

    Returns:
      The ends of the interval.
    """
    _, index = np.unique(groups, return_inverse=True)
    sums, sizes = np.bincount(index, values), np.bincount(index)
    rng = np.random.default_rng(seed)
    means = []
    for _ in range(resamples):
        drawn = rng.integers(0, len(sums), len(sums))
        means.append(sums[drawn].sum() / sizes[drawn].sum())
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def measure(
    differences: np.ndarray,
    labels: np.ndarray,
    prompts: np.ndarray,
    *,
    threshold: float = 0.0,
    resamples: int = 2000,
    seed: int = 0,
) -> PreferenceAgreement:
    """Measures one score on some pairs.

    Args:
      differences: float[N], the first image's score minus the second's.
      labels: float[N], 1 where people chose the first, 0 the second, 0.5 a tie.
      prompts: object[N] of str; a numpy string array would be as wide as the longest.
      threshold: see `points`.
      resamples, seed: see `bootstrap`.

    Returns:
      The agreement, with its 95 % interval.

    Raises:
      ValueError: there are no pairs, or a difference is not finite.
    """
    if not len(labels):
        raise ValueError("there are no labelled pairs to measure")
    if not np.isfinite(differences).all():
        raise ValueError(
            f"{int((~np.isfinite(differences)).sum())} of {len(differences)} "
            "differences of scores are not finite"
        )
    earned = points(differences, labels, threshold)
    low, high = bootstrap(earned, prompts, resamples=resamples, seed=seed)
    chosen = labels != 0.5
    without = (
        points(differences[chosen], labels[chosen]).mean() if chosen.any() else None
    )
    return PreferenceAgreement(
        accuracy=float(earned.mean()),
        low=low,
        high=high,
        accuracy_without_ties=None if without is None else float(without),
        threshold=threshold,
        ties_called=float((np.abs(differences) <= threshold).mean()),
        n_compared=len(labels),
        n_ties=int((~chosen).sum()),
        n_prompts=len(set(prompts.tolist())),
    )
