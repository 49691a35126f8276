"""Coefficients of agreement beyond chance: Krippendorff's alpha, Cohen's kappa."""

import collections
from collections.abc import Callable, Iterable, Sequence
from typing import Any

Triple = tuple[str, Any, Any]  # rater, item, answer


def krippendorff_alpha(
    triples: Sequence[Triple], distance: Callable[[Any, Any], float]
) -> float | None:
    """Returns Krippendorff's alpha: 1 is perfect, 0 is chance; None if undefined.

    Args:
      triples: (rater, item, answer); items with a single rater do not count.
      distance: the squared distance between two answers.
    """
    from nltk.metrics.agreement import AnnotationTask

    raters = collections.Counter(item for _, item, _ in triples)
    paired = [triple for triple in triples if raters[triple[1]] > 1]
    if len({answer for *_, answer in paired}) < 2:
        return None  # without variety, agreement by chance is undefined
    return float(AnnotationTask(data=paired, distance=distance).alpha())


def interval_distance(one: float, other: float) -> float:
    """Returns Krippendorff's squared distance between two numbers."""
    return (one - other) ** 2


def nominal_distance(one: Any, other: Any) -> float:
    """Returns Krippendorff's distance between two names: 0 or 1."""
    return float(one != other)


def ordinal_distance(answers: Iterable[float]) -> Callable[[float, float], float]:
    """Returns Krippendorff's squared distance between ranks, for these answers."""
    counts = sorted(collections.Counter(answers).items())
    below, total = {}, 0
    for value, count in counts:
        below[value] = total + count / 2
        total += count

    def distance(one: float, other: float) -> float:
        return (below[one] - below[other]) ** 2

    return distance


def cohen_kappa(pairs: Sequence[tuple[int, int]]) -> float | None:
    """Returns Cohen's kappa of two raters; None if all their answers are the same."""
    from nltk.metrics.agreement import AnnotationTask

    if len({label for pair in pairs for label in pair}) < 2:
        return None
    data = [(str(who), i, pair[who]) for i, pair in enumerate(pairs) for who in (0, 1)]
    return float(AnnotationTask(data=data).kappa())
