"""Two images of one prompt, side by side: better, the same or worse, in the paper's form.

The paper shows raters the image before and the image after, and reports which share of the
pairs is significantly better, slightly better, about the same, or worse (section 5). Here a
model that had no part in making the images is the judge: the difference of its scores is
cut at two margins.

The margins are those of people, not of a result. Two simulated raters of one scene
(`rahf.datasets.scenes.raters`) differ by .178 in root mean square: the four scores of the
first 4,000 training scenes, .178 of the simple ones, .179 of the full ones. A difference of
two images is `slight` where one rater each puts them in this order three times in four,
which is .674 of that deviation, and `significant` where they do so 19 times in 20, 1.645 of
it. `measure_disagreement` measures it, and a test holds the numbers to it.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from rahf.datasets.ratings.consolidation import LIKERT_POINTS
from rahf.evaluation import resampling
from rahf.evaluation.comparison import Estimate

#: Root mean square of the difference of two raters' answers, in [0, 1].
DISAGREEMENT = 0.178

#: What a pair can be, from the best to the worst.
VERDICTS = (
    "significantly_better",
    "slightly_better",
    "same",
    "slightly_worse",
    "significantly_worse",
)


@dataclasses.dataclass(frozen=True)
class Margins:
    """From which difference of scores on, in either direction, a pair is not the same.

    Attributes:
      slight: at least this, in units of the score.
      significant: at least this.
    """

    slight: float
    significant: float

    def __post_init__(self):
        if not 0 < self.slight <= self.significant:
            raise ValueError(
                f"margins {self.slight:g} and {self.significant:g}: expected the slight "
                "one above 0, and the significant one not below it"
            )


#: The margins of scores in [0, 1]; quantiles of the normal distribution, see above.
MARGINS = Margins(
    slight=round(0.674 * DISAGREEMENT, 2), significant=round(1.645 * DISAGREEMENT, 2)
)


def parse_margins(text: str) -> Margins:
    """Reads "0.12,0.29"; raises ValueError for anything else."""
    try:
        slight, significant = map(float, text.split(","))
    except ValueError as error:
        raise ValueError(
            f"--margins={text}: expected two numbers, such as 0.12,0.29"
        ) from error
    return Margins(slight, significant)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SideBySide:
    """What became of the pairs in one score.

    Attributes:
      pairs, prompts: how many.
      shares: `{verdict: estimate}` over `VERDICTS`, shares of the pairs.
      better_minus_worse: the shares of the two better verdicts less those of the worse.
      difference: the mean of after - before, in units of the score.
    """

    pairs: int
    prompts: int
    shares: Mapping[str, Estimate]
    better_minus_worse: Estimate
    difference: Estimate

    def as_json(self) -> dict[str, Any]:
        """Returns the numbers as JSON holds them."""
        estimates = {
            **self.shares,
            "better_minus_worse": self.better_minus_worse,
            "difference": self.difference,
        }
        return {
            "pairs": self.pairs,
            "prompts": self.prompts,
            **{name: as_numbers(each) for name, each in estimates.items()},
        }


def as_numbers(estimate: Estimate) -> dict[str, float]:
    """Returns `{"value", "low", "high"}`, rounded to six places."""
    names = ("value", "low", "high")
    return {name: round(getattr(estimate, name), 6) for name in names}


def judge(
    before: np.ndarray, after: np.ndarray, margins: Margins = MARGINS
) -> np.ndarray:
    """Returns int64[P], the index in `VERDICTS` of each pair.

    Args:
      before, after: float[P], the scores of the two sides.
      margins: what is slight and what is significant.
    """
    # Scores have six places; 0.5 - 0.38 shall reach a margin of 0.12.
    gain = np.round(np.asarray(after, np.float64) - np.asarray(before, np.float64), 6)
    size = np.abs(gain)
    steps = (size >= margins.slight).astype(int) + (size >= margins.significant)
    return VERDICTS.index("same") - np.sign(gain).astype(int) * steps


def compare_sides(
    before: Sequence[float] | np.ndarray,
    after: Sequence[float] | np.ndarray,
    prompts: Sequence[Any],
    *,
    margins: Margins = MARGINS,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> SideBySide:
    """Compares the scores of pairs of images.

    Every prompt counts the same, whatever the number of its pairs. The intervals are
    percentile bootstraps over prompts: the pairs of a prompt are drawn together.

    Args:
      before, after: P scores each; the same places are one pair.
      prompts: the prompt of each pair.
      margins: what is slight and what is significant.
      level, resamples, seed: of the bootstrap.

    Raises:
      ValueError: the numbers differ, there are none, or a score is not finite.
    """
    sides = [np.asarray(side, np.float64) for side in (before, after)]
    if not len(sides[0]) == len(sides[1]) == len(prompts) > 0:
        raise ValueError(
            f"{len(sides[0])} scores before, {len(sides[1])} after and {len(prompts)} "
            "prompts: expected as many of each, and at least one"
        )
    if not all(np.isfinite(side).all() for side in sides):
        raise ValueError("expected finite scores, got some that are not")
    kinds = judge(sides[0], sides[1], margins)
    rows = np.eye(len(VERDICTS))[kinds]
    rows = np.column_stack([rows, np.sign(2 - kinds), sides[1] - sides[0]])
    means, groups = mean_by_prompt(rows, prompts)
    found = estimate_means(means, level=level, resamples=resamples, seed=seed)
    return SideBySide(
        pairs=len(prompts),
        prompts=groups,
        shares=dict(zip(VERDICTS, found, strict=False)),
        better_minus_worse=found[-2],
        difference=found[-1],
    )


def mean_by_prompt(rows: np.ndarray, prompts: Sequence[Any]) -> tuple[np.ndarray, int]:
    """Averages float[P, C] over the pairs of each prompt: float64[N, C], and N."""
    numbers: dict[Any, int] = {}
    group = np.array([numbers.setdefault(each, len(numbers)) for each in prompts])
    means = [np.bincount(group, column) / np.bincount(group) for column in rows.T]
    return np.column_stack(means), len(numbers)


def estimate_means(
    values: np.ndarray, *, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> list[Estimate]:
    """Returns the mean of each column of float[N, C], with its bootstrap interval.

    Equal N and seed draw the same rows: columns of two calls may be paired.
    """
    values = np.asarray(values, np.float64)
    drawn = resampling.draw(len(values), resamples, seed) @ values / len(values)
    ends = [resampling.interval(column, level) for column in drawn.T]
    return [
        Estimate(value=float(mean), low=low, high=high)
        for mean, (low, high) in zip(values.mean(0), ends, strict=True)
    ]


def measure_disagreement(ratings: Iterable[Sequence[Mapping[str, Any]]]) -> float:
    """Returns how far two raters of one image lie apart, in root mean square.

    Args:
      ratings: of each image the ratings, as `rahf.datasets.ratings.consolidation` has
        them; all pairs of raters and all scores that both gave count.

    Returns:
      In the unit of scores, [0, 1].

    Raises:
      ValueError: no image has a score by two raters.
    """
    apart = [
        (one["scores"][name] - other["scores"][name]) / (LIKERT_POINTS - 1)
        for of_image in ratings
        for one, other in itertools.combinations(of_image, 2)
        for name in one["scores"]
        if name in other["scores"]
    ]
    if not apart:
        raise ValueError("no image has the same score by two raters")
    return float(np.sqrt(np.mean(np.square(apart))))
