"""Merges the ratings of several people into the labels of one image.

The same code serves human ratings and the simulated raters of
`rahf.datasets.scenes`. The procedure is that of section 3 of "Rich Human Feedback for
Text-to-Image Generation" (arXiv 2312.10240): scores are averaged, a word is
misaligned by majority vote, and each clicked point becomes a disk on that
rater's map before the maps are averaged.

A rating is a plain dict, as in JSON:

    {"rater": "r07",
     "implausible_points": [[0.25, 0.5]],   # x, y as fractions of width, height
     "misaligned_points": [],
     "misaligned_words": [1],               # indices into words.split(prompt)
     "scores": {"plausibility": 2, "alignment": 4, "aesthetics": 3, "overall": 3},
     "seconds": 41.0}

Any number of people may rate an image, and a rating may omit entries: each label is
computed from those who gave one, and a label that nobody gave is absent.
`ConsolidationOptions` sets what may differ from the paper.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rahf import words

#: Radius of the disk around a click, as a share of the image height (section 3).
POINT_RADIUS = 1 / 20

#: The Likert scale runs from 1 (worst) to LIKERT_POINTS (best).
LIKERT_POINTS = 5

#: Ways to merge the answers to a score.
SCORES = ("mean", "median")

# The number of raters whose disks are counted at a time, in bytes.
_AT_ONCE = 255

#: Entry of a rating -> field of a record.
POINTS = {
    "implausible_points": "artifact_map",
    "misaligned_points": "misalignment_map",
}
SCORE_FIELDS = {
    "plausibility": "artifact_score",
    "alignment": "misalignment_score",
    "aesthetics": "aesthetics_score",
    "overall": "overall_score",
}
WORDS, WORDS_FIELD = "misaligned_words", "prompt_misalignment_label"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConsolidationOptions:
    """How ratings become labels; the defaults are the paper's.

    Attributes:
      scores: "mean" or "median"; the median of an even number of answers is halfway
        between the two middle ones.
      radius: the radius of the disk around a click, as a share of the image height.
      weights: rater -> weight above 0, as `rahf.datasets.ratings.reliability` computes
        them; a rater not listed has weight 1. None weights all equally. Weights apply
        to means, medians, votes and maps.
    """

    scores: str = "mean"
    radius: float = POINT_RADIUS
    weights: Mapping[str, float] | None = None

    def __post_init__(self):
        if self.scores not in SCORES:
            raise ValueError(
                f"scores={self.scores!r} is unknown; options: {', '.join(SCORES)}"
            )
        if not 0 < self.radius <= 1:
            raise ValueError(
                f"radius={self.radius} must be a share of the image height in (0, 1]"
            )
        for rater, weight in (self.weights or {}).items():
            if not 0 < weight < math.inf:
                raise ValueError(
                    f"rater {rater!r}: the weight must be finite and above 0, "
                    f"got {weight}"
                )


#: The paper's procedure (section 3).
PAPER = ConsolidationOptions()


def consolidate(
    ratings: Sequence[Mapping[str, Any]],
    prompt: str,
    *,
    size: tuple[int, int],
    options: ConsolidationOptions = PAPER,
) -> dict[str, Any]:
    """Merges the ratings of one image into its labels.

    Args:
      ratings: at least one rating, as in the module docstring. An entry that is
        absent or None is unknown.
      prompt: the text that the image was made from.
      size: height and width of the maps, in pixels.
      options: differences from the paper's procedure.

    Returns:
      The label fields that at least one rater gave, under RichHF-18K's names:
      `artifact_map` and `misalignment_map`, float32[H, W] in
      [0, 1], the share of raters whose disks cover a pixel; `artifact_score`,
      `misalignment_score`, `aesthetics_score` and `overall_score`, float in [0, 1],
      higher is better; `prompt_misalignment_label`, int8[num_words], 0 = misaligned,
      1 = aligned.

    Raises:
      ValueError: there are no ratings, or one has a score off the scale, a word that
        the prompt does not have, or a point outside the image.
    """
    if not ratings:
        raise ValueError("expected at least one rating, got none")
    labels: dict[str, Any] = {}
    for entry, field in POINTS.items():
        given, weights = _given(ratings, [r.get(entry) for r in ratings], options)
        if given:
            labels[field] = point_map(
                given, size=size, radius=options.radius, weights=weights
            )
    merge = mean_score if options.scores == "mean" else median_score
    for name, field in SCORE_FIELDS.items():
        answers = [(rating.get("scores") or {}).get(name) for rating in ratings]
        given, weights = _given(ratings, answers, options)
        if given:
            labels[field] = merge(given, weights)
    marks, weights = _given(ratings, [r.get(WORDS) for r in ratings], options)
    if marks:
        labels[WORDS_FIELD] = vote_words(
            marks, num_words=len(words.split(prompt)), weights=weights
        )
    return labels


def _given(
    ratings: Sequence[Mapping[str, Any]],
    answers: Sequence[Any],
    options: ConsolidationOptions,
) -> tuple[list[Any], list[float] | None]:
    """Returns the answers that were given, and the weights of their raters."""
    pairs = zip(ratings, answers, strict=True)
    given = [(rating, answer) for rating, answer in pairs if answer is not None]
    weights = None
    if options.weights is not None:
        weights = [float(options.weights.get(r["rater"], 1.0)) for r, _ in given]
    return [answer for _, answer in given], weights


def point_map(
    points_per_rater: Sequence[Sequence[Sequence[float]]],
    *,
    size: tuple[int, int],
    radius: float = POINT_RADIUS,
    weights: Sequence[float] | None = None,
) -> np.ndarray:
    """Draws each rater's clicks as disks and averages the raters.

    A pixel belongs to a disk if its centre is at most `radius` heights from the click.
    Overlapping disks of one rater count once.

    Args:
      points_per_rater: clicks of each rater, as [x, y] fractions of the width and
        height.
      size: height and width of the map, in pixels.
      radius: the radius of a disk, as a share of the height.
      weights: the raters' weights; None weights them equally.

    Returns:
      float32[H, W] in [0, 1].

    Raises:
      ValueError: a point is outside the image.
    """
    height, width = size
    raters = len(points_per_rater)
    owner = [r for r, points in enumerate(points_per_rater) for _ in points]
    if not owner:
        return np.zeros(size, np.float32)
    points = np.array([p for points in points_per_rater for p in points], np.float64)
    if not (points.min() >= 0 and points.max() <= 1):  # NaN fails too
        raise ValueError(
            "points must be fractions of the image in [0, 1], got values from "
            f"{points.min():g} to {points.max():g}; divide pixels by width and height"
        )
    radius = height * radius
    reach = int(radius) + 1
    # The centre of pixel (row, column) is at (column + 0.5, row + 0.5). Only the
    # window around each click is examined: [P, K] rows and columns.
    window = np.arange(-reach, reach + 1)
    center = points * (width, height) - 0.5
    nearest = np.rint(center).astype(np.int64)
    columns, rows = nearest[:, :1] + window, nearest[:, 1:] + window
    across, down = columns - center[:, :1], rows - center[:, 1:]
    # [P, K, K]
    inside = across[:, None, :] ** 2 + down[:, :, None] ** 2 <= radius * radius
    inside &= ((rows >= 0) & (rows < height))[:, :, None]
    inside &= ((columns >= 0) & (columns < width))[:, None, :]
    which, row, column = np.nonzero(inside)
    rater = np.asarray(owner)[which]
    row, column = rows[which, row], columns[which, column]
    total = np.zeros(size, np.float64 if weights else np.uint32)
    for first in range(0, raters, _AT_ONCE):
        covered = np.zeros((min(_AT_ONCE, raters - first), height, width), bool)
        mine = (rater >= first) & (rater < first + len(covered))
        covered[rater[mine] - first, row[mine], column[mine]] = True
        if weights:
            total += np.tensordot(weights[first : first + len(covered)], covered, 1)
        else:
            total += covered.sum(axis=0, dtype=np.uint8)
    share = total.astype(np.float32) / np.float32(sum(weights) if weights else raters)
    return np.minimum(share, 1, out=share)


def vote_words(
    marks: Sequence[Sequence[int]],
    *,
    num_words: int,
    weights: Sequence[float] | None = None,
) -> np.ndarray:
    """Decides each word by majority; a tie counts as aligned.

    A tie is decided in favour of the image because a mark needs a majority: half of
    the raters are not one.

    Args:
      marks: the indices of the words that each rater marked as misaligned.
      num_words: the number of words in the prompt.
      weights: the raters' weights; None gives each one vote.

    Returns:
      int8[num_words], 0 = misaligned, 1 = aligned (RichHF-18K's convention).

    Raises:
      ValueError: an index is outside the prompt.
    """
    weights = weights or [1] * len(marks)
    votes = [0.0] * num_words
    for rater, weight in zip(marks, weights, strict=True):
        for index in set(rater):
            if not 0 <= index < num_words:
                raise ValueError(
                    f"misaligned word {index} does not exist: "
                    f"the prompt has {num_words} words, counted from 0"
                )
            votes[index] += weight
    # Sums of weights have rounding errors; sums of whole votes do not.
    half = sum(weights) / 2 * (1 + 1e-9)
    return np.array([vote <= half for vote in votes], np.int8)


def mean_score(
    answers: Sequence[float], weights: Sequence[float] | None = None
) -> float:
    """Maps the mean of Likert answers to [0, 1]: (mean - 1) / 4.

    Args:
      answers: one answer per rater, 1 (worst) to 5 (best).
      weights: the raters' weights; None weights them equally.

    Returns:
      float in [0, 1], higher is better; a multiple of 1/12 for three raters.

    Raises:
      ValueError: an answer is off the scale.
    """
    _check_answers(answers)
    if weights:
        products = (a * w for a, w in zip(answers, weights, strict=True))
        mean = math.fsum(products) / math.fsum(weights)
        return min(max((mean - 1) / (LIKERT_POINTS - 1), 0.0), 1.0)
    count = len(answers)
    return (sum(answers) - count) / ((LIKERT_POINTS - 1) * count)


def median_score(
    answers: Sequence[float], weights: Sequence[float] | None = None
) -> float:
    """Maps the median of Likert answers to [0, 1].

    If exactly half of the weight lies on either side of a gap, the median is halfway
    between the two answers next to it.

    Args:
      answers: one answer per rater, 1 (worst) to 5 (best).
      weights: the raters' weights; None weights them equally.

    Returns:
      float in [0, 1], higher is better.

    Raises:
      ValueError: an answer is off the scale.
    """
    _check_answers(answers)
    pairs = sorted(zip(answers, weights or [1] * len(answers), strict=True))
    half = math.fsum(weight for _, weight in pairs) / 2
    below, median = 0.0, pairs[-1][0]
    for index, (answer, weight) in enumerate(pairs):
        below += weight
        if math.isclose(below, half, rel_tol=1e-9):
            median = (answer + pairs[index + 1][0]) / 2
            break
        if below > half:
            median = answer
            break
    return (median - 1) / (LIKERT_POINTS - 1)


def _check_answers(answers: Sequence[float]) -> None:
    for answer in answers:
        if not 1 <= answer <= LIKERT_POINTS:
            raise ValueError(
                f"scores must be between 1 and {LIKERT_POINTS}, got {answer}"
            )
