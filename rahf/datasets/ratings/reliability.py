"""Estimates raters' reliability by how far their answers are from those of others.

A rater's error variance is the mean squared distance of an answer from the mean of
the others who rated the same image, over all images and scores. Answers are weighted
in inverse proportion to it, which is optimal for independent errors. The estimate for
a rater of few images is shrunk towards the average of all raters, so that luck makes
nobody trusted or ignored.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rahf.datasets.ratings.consolidation import SCORE_FIELDS

# The average rater's variance counts as this many answers of each rater.
_PRIOR_ANSWERS = 10
# The largest weight, relative to the average rater; the smallest is its inverse.
_MOST = 5.0


def rater_weights(
    ratings_of_images: Iterable[Sequence[Mapping[str, Any]]],
) -> dict[str, float]:
    """Computes weights for `consolidation.ConsolidationOptions`.

    A bias counts as error, because it distorts the mean as any other error does.

    Args:
      ratings_of_images: the ratings of each image, as
        `rahf.datasets.ratings.consolidation` describes them. Only scores are used.

    Returns:
      rater -> weight in [1/5, 5], 1 for an average rater.

    Raises:
      ValueError: no image has a score from two raters, so nothing can be compared.
    """
    sums: dict[str, float] = defaultdict(float)
    counts: dict[str, int] = defaultdict(int)
    for ratings in ratings_of_images:
        for name in SCORE_FIELDS:
            answers = [
                (rating["rater"], answer)
                for rating in ratings
                if (answer := (rating.get("scores") or {}).get(name)) is not None
            ]
            others = len(answers) - 1
            if others < 1:
                continue
            total = sum(answer for _, answer in answers)
            for rater, answer in answers:
                away = answer - (total - answer) / others
                # The mean of the others has its own error, of variance 1/others.
                sums[rater] += away * away * others / (others + 1)
                counts[rater] += 1
    if not counts:
        raise ValueError(
            "reliability needs images with scores from at least two raters, got none; "
            "use --weights=equal"
        )
    pool = sum(sums.values()) / sum(counts.values())
    if pool == 0:  # all agree
        return dict.fromkeys(counts, 1.0)
    weights = {}
    for rater, count in counts.items():
        variance = (sums[rater] + _PRIOR_ANSWERS * pool) / (count + _PRIOR_ANSWERS)
        weights[rater] = min(max(pool / variance, 1 / _MOST), _MOST)
    return weights
