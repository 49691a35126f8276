"""How reliable a rater is: how far the answers lie from those of the others.

A rater's error variance is the mean squared distance of an answer from the mean of
the others who rated the same image, over all images and scores. Answers weigh in
inverse proportion to it, as is best for independent errors. A rater of few images is
drawn towards the average of all raters, so nobody is trusted or discarded for luck.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rahf.datasets.ratings.consolidation import SCORE_FIELDS

# The average rater's variance counts as this many answers of each rater.
_PRIOR_ANSWERS = 10
# No rater weighs more than so many times the average one, nor less than its inverse.
_MOST = 5.0


def rater_weights(
    ratings_of_images: Iterable[Sequence[Mapping[str, Any]]],
) -> dict[str, float]:
    """Computes weights for `consolidation.ConsolidationOptions`.

    A bias counts as error, because it bends the mean as any other error does.

    Args:
      ratings_of_images: for each image its ratings, as `rahf.datasets.ratings.consolidation`
        describes them. Only the scores are looked at.

    Returns:
      rater -> weight in [1/5, 5], 1 for an average rater.

    Raises:
      ValueError: no image has a score of two raters, so nothing can be compared.
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
                # The mean of the others has an error of its own, of variance 1/others.
                sums[rater] += away * away * others / (others + 1)
                counts[rater] += 1
    if not counts:
        raise ValueError(
            "reliability needs images with a score of at least two raters, got none; "
            "consolidate with --weights=equal"
        )
    pool = sum(sums.values()) / sum(counts.values())
    if pool == 0:  # all agree
        return dict.fromkeys(counts, 1.0)
    weights = {}
    for rater, count in counts.items():
        variance = (sums[rater] + _PRIOR_ANSWERS * pool) / (count + _PRIOR_ANSWERS)
        weights[rater] = min(max(pool / variance, 1 / _MOST), _MOST)
    return weights
