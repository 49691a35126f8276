"""What the judge says of every point, beside the generator as it was.

Judged side by side (`rahf.evaluation.side_by_side`), and by means: of each score, and of
`implausible_area`, the share of an image in which the judge's heatmap is at its threshold
or above.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rahf import targets
from rahf.applications import scored_shards
from rahf.evaluation.image_statistics import (
    MovedStatistic,
    PromptStatistics,
    Tokenize,
    compare_statistics,
)
from rahf.evaluation.judged_sides import (
    JudgedSide,
    SideBySideRequest,
    align,
    judge_sides,
)
from rahf.evaluation.predicted_images import PredictedImage
from rahf.evaluation.side_by_side import VERDICTS, mean_by_prompt
from rahf.improvement.cycle import ImproveRequest, Point

AREA = "implausible_area"
_HEATMAP = "implausibility"
#: Arms that differ in one thing alone, compared at equal steps beside the base.
_DIRECT = (("weighted", "random"), ("rounds", "chosen"))


@dataclasses.dataclass(frozen=True, kw_only=True)
class JudgedPoint:
    """A point against another.

    Attributes:
      point: what was judged.
      against: what it is compared with.
      side: side by side, and the statistics that no score sees.
      means: by score, and `AREA`: before and after.
    """

    point: Point
    against: Point
    side: JudgedSide
    means: Mapping[str, MovedStatistic]

    def as_json(self) -> dict[str, Any]:
        """Returns the numbers as JSON holds them."""
        return {
            "arm": self.point.arm,
            "steps": self.point.steps,
            "against": self.against.arm,
            **self.side.as_json(),
            "means": {name: each.as_json() for name, each in self.means.items()},
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class Improvement:
    """What a run of rahf.bin.improve found.

    Attributes:
      judge: the checkpoint that judged.
      found: every point against the base, in the order of the arms.
      direct: arms against the one that they differ from in one thing alone.
    """

    judge: str
    found: Sequence[JudgedPoint]
    direct: Sequence[JudgedPoint]

    def as_json(self) -> dict[str, Any]:
        """Returns the numbers as JSON holds them."""
        lists = {"against_base": self.found, "direct": self.direct}
        return {"judge": self.judge} | {
            name: [each.as_json() for each in some] for name, some in lists.items()
        }


def measure(
    request: ImproveRequest,
    points: Sequence[Point],
    tokenize: Tokenize | None = None,
) -> Improvement:
    """Compares all points with the base, and arms with each other.

    Args:
      request: what was made.
      points: from `rahf.improvement.cycle.improve`.
      tokenize: the generator's tokenizer, for a statistic.

    Raises:
      ValueError: predictions cannot be read or paired.
    """
    base, *others = points
    drawn = [each for each in others if each.arm != "mended"]
    found, judge = _compare(request, base, drawn, tokenize)
    # Of a prompt with several images one is mended.
    mended = [each for each in others if each.arm == "mended"]
    found += _compare(request, base, mended, tokenize, on_error="skip")[0]
    direct: list[JudgedPoint] = []
    for arm, other in _DIRECT:
        for point in (each for each in others if each.arm == arm):
            beside = [p for p in others if (p.arm, p.steps) == (other, point.steps)]
            for each in beside:
                direct += _compare(request, each, [point], tokenize)[0]
    return Improvement(judge=judge, found=found, direct=direct)


def _compare(
    request: ImproveRequest,
    before: Point,
    after: Sequence[Point],
    tokenize: Tokenize | None,
    on_error: str = "fail",
) -> tuple[list[JudgedPoint], str]:
    """Returns the points against another, and the name of the judge."""
    if not after:
        return [], ""
    asked = SideBySideRequest(
        before=str(request.path(before.folder, "judged")),
        after=[str(request.path(each.folder, "judged")) for each in after],
        on_error=on_error,
        tokenize=tokenize,
    )
    sides = judge_sides(asked)
    found = [
        JudgedPoint(point=point, against=before, side=side, means=_means(side))
        for point, side in zip(after, sides.sides, strict=True)
    ]
    return found, str(sides.judge.get("checkpoint") or request.judge)


def _means(side: JudgedSide) -> dict[str, MovedStatistic]:
    """Returns the means over prompts of the scores, and of the implausible area."""
    names, sides = tuple(side.scores), []
    prompts = tuple(dict.fromkeys(side.pairs.prompts))
    for images in (side.pairs.before, side.pairs.after):
        rows = [[*(each.scores[n] for n in names), _area(each)] for each in images]
        values, _ = mean_by_prompt(np.array(rows), side.pairs.prompts)
        columns = dict(zip((*names, AREA), values.T, strict=True))
        sides.append(PromptStatistics(prompts, columns))
    return compare_statistics(*sides)


def _area(image: PredictedImage) -> float:
    """Returns the share of an image that is implausible; NaN without a heatmap."""
    place = image.heatmaps.get(_HEATMAP)
    if place is None:
        return float("nan")
    threshold = targets.get(_HEATMAP).threshold or 0.5
    return float((scored_shards.read_heatmap(place) >= threshold).mean())


def describe(improvement: Improvement, by: Sequence[str]) -> str:
    """Returns tables as text: a row for each point, of some scores."""
    lines = [f"judged by {improvement.judge}; % of pairs, 95 % intervals over prompts"]
    for title, some in (
        ("against the generator as it was", improvement.found),
        ("at equal data or steps", improvement.direct),
    ):
        for name in by:
            rows = [_row(each, name) for each in some if name in each.side.scores]
            if rows:
                head = (f"{name}, {title}", *_HEADS)
                lines += ["", *align([head, *rows])]
    return "\n".join(lines)


_HEADS = (
    *(verdict.replace("_", " ") for verdict in VERDICTS),
    "better - worse",
    "mean before",
    "after",
    "area before",
    "after",
)


def name_of(judged: JudgedPoint) -> str:
    """Returns what a point is called: "chosen, 200 steps"."""
    steps = f", {judged.point.steps:,} steps" if judged.point.steps else ""
    against = "" if judged.against.arm == "base" else f" against {judged.against.arm}"
    return f"{judged.point.arm}{against}{steps}"


def _row(judged: JudgedPoint, name: str) -> list[str]:
    found, mean = judged.side.scores[name], judged.means[name]
    shares = [f"{100 * each.value:.1f}" for each in found.shares.values()]
    net = found.better_minus_worse
    between = f"{100 * net.value:+.1f} ({100 * net.low:+.1f} to {100 * net.high:+.1f})"
    cells = [f"{mean.before.value:.3f}", f"{mean.after.value:.3f}"]
    area = judged.means.get(AREA)
    cells += (
        [f"{100 * x.value:.1f} %" for x in (area.before, area.after)]
        if area
        else ["-"] * 2
    )
    return [name_of(judged), *shares, between, *cells]
