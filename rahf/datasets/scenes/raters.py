"""Simulates the ratings of a scene by three people.

A rater may overlook a flaw (and then neither clicks nor marks it), clicks slightly off
the intended spot, sometimes clicks or marks something that is fine, and rounds an
impression to the Likert scale with a personal bias. As in RichHF-18K, each image has 3
raters from a pool of 27.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from rahf import words
from rahf.datasets.ratings import consolidation
from rahf.datasets.scenes import truth
from rahf.datasets.scenes.dice import Dice

RATERS = 27
RATERS_PER_SCENE = 3
#: Score -> what it truly is, of a scene.
TRUE_SCORES = {
    "plausibility": truth.plausibility,
    "alignment": truth.alignment,
    "aesthetics": truth.aesthetics,
    "overall": truth.overall,
}

# Spread of an answer around the truth, in Likert points. Together with the bias it
# makes the raters agree perfectly on a score for about a third of the scenes; people
# do so for a quarter of the images (RichHF-18K).
_ANSWER_NOISE = 0.42
_BIAS = 0.15
_STRAY_CLICK = 0.015
_STRAY_WORD = 0.05
_DROPPED_WORD = 0.03
# A rater who compares two pictures calls a smaller difference of impressions a tie, in
# Likert points: half of what separates two answers.
_ALIKE = 0.5


def rate(dice: Dice, scene: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Simulates the ratings of a scene.

    Args:
      dice: the source of the noise.
      scene: from `description.describe`.

    Returns:
      Three ratings, as `consolidation` describes them.
    """
    true_scores = {name: score(scene) for name, score in TRUE_SCORES.items()}
    num_words = len(words.split(scene["prompt"]))
    raters = dice.sample(range(RATERS), RATERS_PER_SCENE)
    return [_rate_once(dice, scene, true_scores, num_words, rater) for rater in raters]


def compare(
    dice: Dice, scenes: Sequence[Mapping[str, Any]], number: int
) -> dict[str, float]:
    """Simulates people's choices between two pictures of one prompt.

    A rater's impression of each picture is that behind a rating (`rate`); whether the
    rater is strict or mild makes no difference.

    Args:
      dice: the source of the noise.
      scenes: two, from `description.describe`.
      number: the number of raters.

    Returns:
      By score, the share of votes for the first picture. A rater who finds both alike
      gives half a vote to each.
    """
    votes = {}
    for name, truth_of in TRUE_SCORES.items():
        apart = 4 * (truth_of(scenes[0]) - truth_of(scenes[1]))
        total = 0.0
        for _ in range(number):
            noise = _ANSWER_NOISE * (dice.normal() - dice.normal())
            seen = apart + noise
            total += 0.5 if abs(seen) < _ALIKE else float(seen > 0)
        votes[name] = total / number
    return votes


def _rate_once(
    dice: Dice,
    scene: Mapping[str, Any],
    true_scores: Mapping[str, float],
    num_words: int,
    rater: int,
) -> dict[str, Any]:
    """Returns one rater's rating."""
    implausible, _ = _look(dice, scene["implausibility"])
    misaligned, seen = _look(dice, scene["misalignment"])
    marks = {
        at for flaw in seen for at in flaw["words"] if not dice.chance(_DROPPED_WORD)
    }
    if dice.chance(_STRAY_WORD):
        marks.add(dice.integer(num_words))
    # Evenly spread over the pool, from strict raters to mild ones.
    bias = _BIAS * (rater - (RATERS - 1) / 2) / (RATERS / 2) * 1.7
    scores = {}
    for name, value in true_scores.items():
        answer = 1 + 4 * value + bias + _ANSWER_NOISE * dice.normal()
        scores[name] = min(max(int(answer + 0.5), 1), consolidation.LIKERT_POINTS)
    work = len(implausible) + len(misaligned) + 3 * len(marks)
    return {
        "rater": f"simulated-{rater:02d}",
        "implausible_points": implausible,
        "misaligned_points": misaligned,
        "misaligned_words": sorted(marks),
        "scores": scores,
        "seconds": round(12 + num_words * 0.4 + work * 1.1 + dice.uniform(0, 15), 1),
    }


def _look(
    dice: Dice, flaws: Sequence[dict[str, Any]]
) -> tuple[list[list[float]], list[dict[str, Any]]]:
    """Returns one rater's clicks, and the flaws that the rater noticed."""
    seen = [flaw for flaw in flaws if dice.chance(truth.notice_rate(flaw))]
    points = [
        [_jitter(dice, x), _jitter(dice, y)]
        for flaw in seen
        for x, y in flaw["spots"]
        if dice.chance(truth.CLICK_RATE)
    ]
    if dice.chance(_STRAY_CLICK):
        points.append([round(dice.uniform(), 4), round(dice.uniform(), 4)])
    return points, seen


def _jitter(dice: Dice, value: float) -> float:
    moved = value + truth.CLICK_NOISE * dice.normal()
    return round(min(max(moved, 0.0), 1.0), 4)


def rater_against_others(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns each rater's own labels and the consolidated ones of the others.

    Args:
      record: a record with "ratings" by at least two raters, simulated or human.

    Returns:
      For each rater `{"rater", "own", "others"}`, where `own` and `others` hold
      the label fields of `consolidation.consolidate`.
    """
    ratings = record["ratings"]
    size = record["image"].shape[:2]
    pairs = []
    for index, rating in enumerate(ratings):
        others = [*ratings[:index], *ratings[index + 1 :]]
        pairs.append(
            {
                "rater": rating["rater"],
                "own": consolidation.consolidate([rating], record["prompt"], size=size),
                "others": consolidation.consolidate(
                    others, record["prompt"], size=size
                ),
            }
        )
    return pairs
