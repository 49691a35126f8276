"""Folders of predictions -> side by side, as text and as JSON."""

import dataclasses
import functools
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from rahf import durable
from rahf.evaluation.image_statistics import MovedStatistic, Tokenize
from rahf.evaluation.paired_images import PairedImages, SideStatistics, pair_images
from rahf.evaluation.predicted_images import PredictedImages
from rahf.evaluation.side_by_side import (
    MARGINS,
    VERDICTS,
    Estimate,
    Margins,
    SideBySide,
    compare_sides,
)
from rahf.evaluation.text_tables import align

_HEAD = (*(name.replace("_", " ") for name in VERDICTS), "better - worse")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SideBySideRequest:
    """What to compare.

    Attributes:
      before: predictions of the images before, by the judge.
      after: those of the images after, one or several, each compared with `before`.
      by: the scores; none = all that both sides have.
      margins: what is slight and what is significant.
      same_judge: whether the judge may have had a hand in the images.
      on_error: "fail" or "skip", see `pair_images`.
      statistics: whether to read the images and measure what no score sees.
      tokenize: the generator's tokenizer, for the entropy of tokens.
      level, resamples, seed: of the bootstrap.
    """

    before: str
    after: Sequence[str]
    by: Sequence[str] = ()
    margins: Margins = MARGINS
    same_judge: bool = False
    on_error: str = "fail"
    statistics: bool = True
    tokenize: Tokenize | None = None
    level: float = 0.95
    resamples: int = 2000
    seed: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class JudgedSide:
    """One side after, compared with the side before.

    Attributes:
      source: its predictions, as named.
      pairs: the paired images.
      scores: `{score: its comparison}`.
      statistics: `{statistic: before and after}`, see `image_statistics`.
    """

    source: str
    pairs: PairedImages
    scores: Mapping[str, SideBySide]
    statistics: Mapping[str, MovedStatistic]

    def as_json(self) -> dict[str, Any]:
        """Returns the numbers as JSON holds them."""
        return {
            "after": self.source,
            "unpaired_before": self.pairs.unpaired[0],
            "unpaired_after": self.pairs.unpaired[1],
            "notes": list(self.pairs.notes),
            "scores": {name: each.as_json() for name, each in self.scores.items()},
            "statistics": {n: each.as_json() for n, each in self.statistics.items()},
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class JudgedSides:
    """What `judge_sides` found.

    Attributes:
      request: what was asked.
      judge: the checkpoint that judged, as its predictions name it.
      sides: in the order asked for.
    """

    request: SideBySideRequest
    judge: Mapping[str, Any]
    sides: Sequence[JudgedSide]

    def as_json(self) -> dict[str, Any]:
        """Returns the numbers as JSON holds them; shares are in [0, 1]."""
        asked = self.request
        return {
            "before": asked.before,
            "judge": dict(self.judge),
            "same_judge": asked.same_judge,
            "margins": dataclasses.asdict(asked.margins),
            "level": asked.level,
            "resamples": asked.resamples,
            "seed": asked.seed,
            "sides": [side.as_json() for side in self.sides],
        }

    def __str__(self) -> str:
        margins, lines = self.request.margins, []
        names = _short([side.source for side in self.sides])
        lines.append(
            f"before: {self.request.before}, judged by "
            f"{self.judge.get('checkpoint') or 'a model without a name'}"
        )
        if self.request.same_judge:
            lines.append(
                "--same_judge: the judge may have had a hand in the images, so the "
                "numbers may be its own climb"
            )
        lines.append(
            f"slightly from a difference of {margins.slight:g} on, significantly from "
            f"{margins.significant:g}; % of pairs, {self.request.level:.0%} intervals "
            "over prompts"
        )
        for name, side in zip(names, self.sides, strict=True):
            lines += ["", _counts(name, side), *_table(side.scores)]
            if side.statistics:
                lines += ["", *_statistics_table(side.statistics)]
            lines += [f"note: {note}" for note in side.pairs.notes]
        return "\n".join(lines)


def judge_sides(request: SideBySideRequest) -> JudgedSides:
    """Compares each side after with the side before.

    Raises:
      ValueError: predictions cannot be read or paired, or lack a score.
    """
    read = functools.cache(PredictedImages)
    before, sides = read(request.before), []
    measure = SideStatistics(request.tokenize)
    for source in request.after:
        after = read(os.fspath(source))
        pairs = pair_images(
            before, after, on_error=request.on_error, same_judge=request.same_judge
        )
        shared = tuple(name for name in before.scores if name in after.scores)
        if not (names := tuple(dict.fromkeys(request.by)) or shared):
            raise ValueError(f"{request.before} and {source} share no score")
        names_of_bootstrap = ("level", "resamples", "seed")
        bootstrap = {name: getattr(request, name) for name in names_of_bootstrap}
        compare = functools.partial(compare_sides, margins=request.margins, **bootstrap)
        found = {name: compare(*pairs.scores(name), pairs.prompts) for name in names}
        moved = measure.compare(pairs, **bootstrap) if request.statistics else {}
        sides.append(
            JudgedSide(source=source, pairs=pairs, scores=found, statistics=moved)
        )
    return JudgedSides(request=request, judge=before.made_by, sides=sides)


def write_sides(request: SideBySideRequest, output: str | None = None) -> str:
    """Compares as `judge_sides` does, writes the numbers to a JSON file, if one is named,
    and returns them as text."""
    if output:  # before the work
        durable.check_file(output)
    found = judge_sides(request)
    if output:
        durable.write_text(output, json.dumps(found.as_json(), indent=1) + "\n")
    return str(found)


def _short(paths: Sequence[str]) -> list[str]:
    """Returns the last parts of paths, where they tell them apart."""
    last = [os.path.basename(os.path.normpath(path)) for path in paths]
    return last if len(set(last)) == len(last) else list(paths)


def _counts(name: str, side: JudgedSide) -> str:
    pairs = next(iter(side.scores.values()))
    parts = [f"{name}: {pairs.pairs:,} pairs of {pairs.prompts:,} prompts"]
    one, other = side.pairs.unpaired
    if one or other:
        parts.append(f"{one:,} images before and {other:,} after have no partner")
    return "; ".join(parts)


def _table(scores: Mapping[str, SideBySide]) -> list[str]:
    rows = [["", *_HEAD]]
    for name, found in scores.items():
        cells = [*found.shares.values(), found.better_minus_worse]
        rows.append([name, *map(_percent, cells)])
    return align(rows)


def _percent(share: Estimate) -> str:
    return f"{100 * share.value:.1f} ({100 * share.low:.1f} to {100 * share.high:.1f})"


def _statistics_table(moved: Mapping[str, MovedStatistic]) -> list[str]:
    rows = [["seen by no score", "before", "after", "after - before", "prompts"]]
    for name, found in moved.items():
        shift = found.difference
        rows.append(
            [
                name,
                f"{found.before.value:.3f}",
                f"{found.after.value:.3f}",
                f"{shift.value:+.3f} ({shift.low:+.3f} to {shift.high:+.3f})"
                + ("*" if shift.clear else " "),
                f"{found.prompts:,}",
            ]
        )
    return align(rows)
