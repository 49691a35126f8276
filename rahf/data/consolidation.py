"""From the raw ratings of several people to the labels of one image.

The same code serves human ratings and the simulated raters of
`rahf.data.scenes`. The procedure is section 3 of "Rich Human Feedback for
Text-to-Image Generation" (arXiv 2312.10240): scores are averaged, a word is
misaligned by majority vote, and each clicked point becomes a disk on that
rater's map before the maps are averaged.

A rating is a plain dict, as JSON would hold it:

    {"rater": "r07",
     "implausible_points": [[0.25, 0.5]],   # x, y as fractions of width, height
     "misaligned_points": [],
     "misaligned_words": [1],               # indices into words.split(prompt)
     "scores": {"plausibility": 2, "alignment": 4, "aesthetics": 3, "overall": 3},
     "seconds": 41.0}
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rahf import words

#: Radius of the disk around a click, as a share of the image height (section 3).
POINT_RADIUS = 1 / 20

#: The Likert scale runs from 1 (worst) to LIKERT_POINTS (best).
LIKERT_POINTS = 5

# Which rating entry becomes which record field.
_POINTS = {
    "implausible_points": "artifact_map",
    "misaligned_points": "misalignment_map",
}
_SCORES = {
    "plausibility": "artifact_score",
    "alignment": "misalignment_score",
    "aesthetics": "aesthetics_score",
    "overall": "overall_score",
}


def consolidate(
    ratings: Sequence[Mapping[str, Any]], prompt: str, *, size: tuple[int, int]
) -> dict[str, Any]:
    """Merges the ratings of one image into its labels.

    Args:
      ratings: at least one rating, as in the module docstring.
      prompt: the text the image was made from.
      size: height and width of the maps, in pixels.

    Returns:
      The label fields of a record, under the names RichHF-18K gives them:
      `artifact_map` and `misalignment_map`, float32[H, W] in [0, 1], the share of
      raters whose disks cover a pixel; `artifact_score`, `misalignment_score`,
      `aesthetics_score` and `overall_score`, float in [0, 1], higher is better;
      `prompt_misalignment_label`, int8[num_words], 0 = misaligned, 1 = aligned.

    Raises:
      ValueError: no ratings, a score off the scale, a word the prompt does not
        have, or a point outside the image.
    """
    if not ratings:
        raise ValueError("expected at least one rating, got none")
    labels: dict[str, Any] = {}
    for entry, field in _POINTS.items():
        labels[field] = point_map([rating[entry] for rating in ratings], size=size)
    for name, field in _SCORES.items():
        labels[field] = mean_score([rating["scores"][name] for rating in ratings])
    labels["prompt_misalignment_label"] = vote_words(
        [rating["misaligned_words"] for rating in ratings],
        num_words=len(words.split(prompt)),
    )
    return labels


def point_map(
    points_per_rater: Sequence[Sequence[Sequence[float]]], *, size: tuple[int, int]
) -> np.ndarray:
    """Draws each rater's clicks as disks and averages the raters.

    A pixel belongs to a disk when its centre is at most H/20 pixels from the
    click, so overlapping disks of one rater count once.

    Args:
      points_per_rater: for each rater, clicks as [x, y] fractions of the width
        and height.
      size: height and width of the map, in pixels.

    Returns:
      float32[H, W] in [0, 1].

    Raises:
      ValueError: a point outside the image.
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
    radius = height * POINT_RADIUS
    reach = int(radius) + 1
    # Pixel (row, column) has its centre at (column + 0.5, row + 0.5). Only the
    # window around each click is looked at: [P, K] rows and columns.
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
    covered = np.zeros((raters, height, width), bool)
    covered[np.asarray(owner)[which], rows[which, row], columns[which, column]] = True
    return covered.sum(axis=0, dtype=np.uint8).astype(np.float32) / np.float32(raters)


def vote_words(marks: Sequence[Sequence[int]], *, num_words: int) -> np.ndarray:
    """Decides each word by majority; a tie counts as aligned.

    A tie is resolved in favour of the image because a mark needs evidence: half
    the raters seeing nothing wrong is not a majority.

    Args:
      marks: for each rater, the indices of the words marked as misaligned.
      num_words: how many words the prompt has.

    Returns:
      int8[num_words], 0 = misaligned, 1 = aligned (RichHF-18K's convention).

    Raises:
      ValueError: an index outside the prompt.
    """
    votes = [0] * num_words
    for rater in marks:
        for index in set(rater):
            if not 0 <= index < num_words:
                raise ValueError(
                    f"misaligned word {index} does not exist: "
                    f"the prompt has {num_words} words, counted from 0"
                )
            votes[index] += 1
    return np.array([2 * vote <= len(marks) for vote in votes], np.int8)


def mean_score(answers: Sequence[float]) -> float:
    """Maps the mean of Likert answers to [0, 1]: (mean - 1) / 4.

    Args:
      answers: one answer per rater, 1 (worst) to 5 (best).

    Returns:
      float in [0, 1], higher is better; a multiple of 1/12 for three raters.

    Raises:
      ValueError: an answer off the scale.
    """
    for answer in answers:
        if not 1 <= answer <= LIKERT_POINTS:
            raise ValueError(
                f"scores must lie between 1 and {LIKERT_POINTS}, got {answer}"
            )
    count = len(answers)
    return (sum(answers) - count) / ((LIKERT_POINTS - 1) * count)
