"""Which images to keep: the best of each prompt that are good enough, and a control.

Legend: N images, P prompts. Of equal values, the image that comes first is the better.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Self

import numpy as np

#: The most rows of the yield curve's table.
_MOST_ROWS = 12


@dataclasses.dataclass(frozen=True)
class WeightedScores:
    """A sum of scores, by which images are ranked.

    Attributes:
      weights: the weight of each score, by its name; above 0.
    """

    weights: Mapping[str, float]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads `plausibility` or `0.7*plausibility+0.3*overall`.

        Raises:
          ValueError: a weight is not above 0, or a name is empty or appears twice.
        """
        weights: dict[str, float] = {}
        for term in text.split("+"):
            factor, star, name = term.rpartition("*")
            name = name.strip()
            weight = _number(factor) if star else 1.0
            if not (name and name not in weights and 0 < weight < math.inf):
                raise ValueError(
                    f"{text!r}: expected a score, such as plausibility, or a sum such "
                    "as 0.7*plausibility+0.3*overall, of different scores with weights "
                    "above 0"
                )
            weights[name] = weight
        return cls(weights)

    def __str__(self) -> str:
        return "+".join(
            name if weight == 1 else f"{weight:g}*{name}"
            for name, weight in self.weights.items()
        )

    def of(self, names: tuple[str, ...], scores: np.ndarray) -> np.ndarray:
        """Returns the sums, float64[N], of float64[N, S] scores with these names."""
        columns = (
            weight * scores[:, names.index(name)]
            for name, weight in self.weights.items()
        )
        return np.asarray(sum(columns), np.float64)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rule:
    """What makes an image one of those kept.

    The paper keeps the best image of a prompt if its plausibility passes a fixed
    threshold (section 5.1 of https://arxiv.org/abs/2312.10240).

    Attributes:
      by: the score, or sum of scores, that ranks the images of a prompt.
      threshold: the lowest value to keep; None = any.
      wanted_yield: the share of the prompts that shall keep an image, from which the
        threshold follows; None = `threshold` is given.
      require: scores, each with its lowest value; other images are not candidates.
      keep: images per prompt; 0 = all.
      share: the share of all images to keep at most, the best of any prompt.
    """

    by: WeightedScores
    threshold: float | None = None
    wanted_yield: float | None = None
    require: Mapping[str, float] = dataclasses.field(default_factory=dict)
    keep: int = 1
    share: float = 1.0

    def names(self) -> tuple[str, ...]:
        """Returns the names of all scores that the rule needs."""
        return tuple(dict.fromkeys([*self.by.weights, *self.require]))


#: The flags that `parse_rule` reads.
RULE_FLAGS = ("by", "threshold", "require", "keep", "share")


def parse_rule(
    by: str, threshold: str | None, require: Sequence[str], keep: int, share: float
) -> Rule:
    """Reads a rule as the flags of rahf.bin.select state it.

    Args:
      by: see `WeightedScores.parse`.
      threshold: a number, or `auto:0.3` for a wanted yield.
      require: `NAME=NUMBER` each.
      keep, share: see `Rule`.

    Raises:
      ValueError: one of them is none of these.
    """
    required: dict[str, float] = {}
    for text in require:
        name, _, number = text.rpartition("=")
        low = _number(number)
        if not name or name in required or not math.isfinite(low):
            raise ValueError(
                f"--require={text}: expected NAME=NUMBER, such as alignment=0.5, once "
                "for each score"
            )
        required[name] = low
    if not 0 < share <= 1:
        raise ValueError(f"--share={share:g} must be above 0 and at most 1")
    lowest, wanted = (None, None) if threshold is None else _threshold(threshold)
    return Rule(
        by=WeightedScores.parse(by),
        threshold=lowest,
        wanted_yield=wanted,
        require=required,
        keep=keep,
        share=share,
    )


def _threshold(text: str) -> tuple[float | None, float | None]:
    kind, colon, number = text.rpartition(":")
    value = _number(number)
    if not colon and math.isfinite(value):
        return value, None
    if kind == "auto" and 0 < value <= 1:
        return None, value
    raise ValueError(
        f"--threshold={text}: expected a number, or auto:YIELD with the share of "
        "prompts that shall keep an image, above 0 and at most 1"
    )


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


@dataclasses.dataclass(frozen=True)
class YieldCurve:
    """How many prompts and images pass each threshold.

    Attributes:
      best: float64[P'], the best value of each prompt that has one, descending.
      kept: float64[M], the values of the images within `keep` of their prompt,
        descending.
      prompts: P, the number of prompts.
    """

    best: np.ndarray
    kept: np.ndarray
    prompts: int

    def at(self, threshold: float) -> tuple[int, int]:
        """Returns the prompts and images that pass a threshold."""
        return tuple(
            int(np.searchsorted(-values, -threshold, side="right"))
            for values in (self.best, self.kept)
        )  # pyright: ignore[reportReturnType]

    def threshold_for(self, wanted: float) -> float:
        """Returns the highest threshold that this share of the prompts passes.

        Raises:
          ValueError: fewer prompts have an image that meets the requirements.
        """
        number = max(1, math.ceil(wanted * self.prompts - 1e-9))
        if number > len(self.best):
            raise ValueError(
                f"--threshold=auto:{wanted:g}: {number} of {self.prompts} prompts "
                f"wanted, but only {len(self.best)} have an image that meets --require; "
                "lower one of them"
            )
        return float(self.best[number - 1])

    def rows(self) -> list[dict[str, float]]:
        """Returns {threshold, prompts, yield, images} at round thresholds."""
        if not len(self.best):
            return []
        low, high = float(self.best[-1]), float(self.best[0])
        steps = (m * 10.0**e for e in range(-9, 9) for m in (1, 2, 5))
        step = next(s for s in steps if high - low <= s * (_MOST_ROWS - 2))
        ends = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        found = []
        for index in range(ends[0], ends[1] + 1):
            threshold = round(index * step, 12)
            prompts, images = self.at(threshold)
            row = {"threshold": threshold, "prompts": prompts}
            found.append(row | {"yield": prompts / self.prompts, "images": images})
        return found

    def table(self) -> str:
        """Returns the rows as text."""
        lines = [f"{'threshold':>9}  {'prompts':>9}  {'yield':>7}  {'images':>9}"]
        lines += [
            f"{row['threshold']:>9g}  {row['prompts']:>9,}  {row['yield']:>7.1%}  "
            f"{row['images']:>9,}"
            for row in self.rows()
        ]
        return "\n".join(lines)


class NothingChosenError(ValueError):
    """No image passes the rule."""


@dataclasses.dataclass(frozen=True)
class Choice:
    """What a rule chose.

    Attributes:
      chosen: bool[N].
      values: float64[N], the images' values by `Rule.by`.
      ranks: int32[N], the place among the candidates of the prompt that meet
        `Rule.require`, from 1; 0 = not among them.
      threshold: the threshold used; None = any value.
      curve: the yield at each threshold.
    """

    chosen: np.ndarray
    values: np.ndarray
    ranks: np.ndarray
    threshold: float | None
    curve: YieldCurve


def choose(
    rule: Rule,
    names: tuple[str, ...],
    scores: np.ndarray,
    prompts: np.ndarray,
    usable: np.ndarray,
) -> Choice:
    """Applies a rule.

    Args:
      rule: the rule.
      names: the names of the scores.
      scores: float64[N, S].
      prompts: int32[N], the number of each image's prompt.
      usable: bool[N], False for images that are out of the question, such as copies.

    Returns:
      The choice, with at least one image.

    Raises:
      NothingChosenError: no image passes; the message has the best value and the yield
        curve.
    """
    values = rule.by.of(names, scores)
    able = usable & meets(rule.require, names, scores)
    ranks = rank_within(prompts, values, able)
    kept = (ranks > 0) & ((ranks <= rule.keep) | (rule.keep == 0))
    curve = YieldCurve(
        best=-np.sort(-values[ranks == 1]),
        kept=-np.sort(-values[kept]),
        prompts=len(np.unique(prompts[usable])),
    )
    threshold = rule.threshold
    if rule.wanted_yield is not None:
        threshold = curve.threshold_for(rule.wanted_yield)
    chosen = kept if threshold is None else kept & (values >= threshold)
    if not chosen.any():
        raise NothingChosenError(_why_nothing(rule, curve, threshold, scores, names))
    limit = max(1, math.floor(rule.share * int(usable.sum()) + 1e-9))
    if chosen.sum() > limit:
        numbers = np.flatnonzero(chosen)
        best = numbers[np.argsort(-values[numbers], kind="stable")][:limit]
        chosen = np.zeros_like(chosen)
        chosen[best] = True
    return Choice(chosen, values, ranks, threshold, curve)


def meets(
    require: Mapping[str, float], names: tuple[str, ...], scores: np.ndarray
) -> np.ndarray:
    """Returns bool[N], whether all required scores are at least as high as asked."""
    found = np.ones(len(scores), bool)
    for name, low in require.items():
        found &= scores[:, names.index(name)] >= low
    return found


def rank_within(
    groups: np.ndarray, values: np.ndarray, usable: np.ndarray
) -> np.ndarray:
    """Returns int32[N], the place of each value in its group, from 1 for the highest.

    Of equal values the earlier one comes first. Those that are not usable get 0.
    """
    numbers = np.flatnonzero(usable)
    order = numbers[np.lexsort((-values[numbers], groups[numbers]))]
    is_first = np.ones(len(order), bool)
    is_first[1:] = groups[order][1:] != groups[order][:-1]
    starts = np.flatnonzero(is_first)[np.cumsum(is_first) - 1]
    ranks = np.zeros(len(groups), np.int32)
    ranks[order] = np.arange(len(order)) - starts + 1
    return ranks


def _why_nothing(rule, curve, threshold, scores, names) -> str:
    if not len(curve.best):
        highest = ", ".join(
            f"{name} {scores[:, names.index(name)].max():g}" for name in rule.require
        )
        wanted = ", ".join(f"{name}={low:g}" for name, low in rule.require.items())
        return f"no image meets --require {wanted}; the highest found: {highest}"
    yields = ", ".join(
        f"{row['threshold']:g}: {row['yield']:.1%}" for row in curve.rows()
    )
    return (
        f"no prompt has an image with {rule.by} of at least {threshold:g}; the best "
        f"found is {curve.best[0]:g}; share of the {curve.prompts:,} prompts that pass "
        f"a threshold: {yields}"
    )


def draw_control(
    chosen: np.ndarray, prompts: np.ndarray, usable: np.ndarray, seed: int
) -> np.ndarray:
    """Draws as many images at random, from the same prompts, as were chosen.

    Args:
      chosen: bool[N], what a rule chose.
      prompts: int32[N], the number of each image's prompt.
      usable: bool[N], the images to draw from, the chosen ones among them.
      seed: the seed of the draw.

    Returns:
      bool[N], with as many images of every prompt as `chosen`.
    """
    counts = np.bincount(prompts[chosen], minlength=int(prompts.max()) + 1)
    keys = np.random.default_rng(seed).random(len(prompts))
    ranks = rank_within(prompts, keys, usable)
    return (ranks > 0) & (ranks <= counts[prompts])


def find_worst(
    choice: Choice, prompts: np.ndarray, usable: np.ndarray, margin: float = 0.0
) -> dict[int, int]:
    """Pairs chosen images with the worst image of their prompt.

    Args:
      choice: a choice of one image per prompt.
      prompts: int32[N], the number of each image's prompt.
      usable: bool[N], the images that may be in a pair.
      margin: the least difference of the two values, which must differ in any case.

    Returns:
      `{chosen image: worst image}`, in the order of the images.
    """
    places = rank_within(prompts, choice.values, usable)
    sizes = np.bincount(prompts[usable], minlength=int(prompts.max()) + 1)
    lowest = np.full(len(sizes), -1)
    last = usable & (places == sizes[prompts])
    lowest[prompts[last]] = np.flatnonzero(last)
    pairs = {}
    for best in np.flatnonzero(choice.chosen & usable):
        worst = lowest[prompts[best]]  # itself if there is no other
        apart = choice.values[best] - choice.values[worst]
        # A margin such as 0.1 is not exact in binary, nor is a difference of scores.
        if apart > 0 and apart >= margin - 1e-9:
            pairs[int(best)] = int(worst)
    return pairs
