"""Compares models on the same images: intervals, paired differences, ranks.

Images are resampled for the intervals (`rahf.evaluation.resampling`); the same images
for all models, so that a difference is not blurred by what is hard for both. Where
several runs are one model, its metrics are means over the runs, in every resample.
"""

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rahf import targets
from rahf.evaluation import resampling
from rahf.evaluation.evaluate import Results
from rahf.evaluation.metrics.table import METRICS, NAMES, describe_metric
from rahf.evaluation.metrics.words import recount
from rahf.targets import Kind

Row = dict[str, Any]
#: Labels are the same if they differ by rounding alone.
_SAME = 1e-6


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeasuredRun:
    """One run on a split.

    Attributes:
      source: the workdir or the predictions, for people.
      results: its results, with rows.
      image_size: the side of the heatmaps measured, in pixels.
    """

    source: str
    results: Results
    image_size: int


@dataclasses.dataclass(frozen=True)
class ComparedModel:
    """A model, with one run or several that differ by their seeds."""

    name: str
    runs: Sequence[MeasuredRun]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Estimate:
    """A number with its interval.

    Attributes:
      value: the number, of all images; the mean over the runs.
      low, high: the bootstrap interval over images.
      runs: the value of each run.
      rank: the mean rank among the models, 1 is best, of runs drawn at random; None
        for differences and where neither higher nor lower is better.
    """

    value: float
    low: float
    high: float
    runs: tuple[float, ...] = ()
    rank: float | None = None

    @property
    def clear(self) -> bool:
        """Whether 0 is outside the interval; of a difference."""
        return self.low > 0 or self.high < 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """What a comparison found.

    Attributes:
      names: the models, in order.
      metrics: `{target: {metric: {model: estimate}}}`.
      differences: `{target: {metric: {(model, other): estimate of model - other}}}`.
      counts: `{target: images measured}`.
      spread: `{target: {uid: how far the models' answers lie apart}}`.
      notes: what is not compared, for people.
      options: level, resamples and seed.
    """

    names: tuple[str, ...]
    metrics: Mapping[str, Mapping[str, Mapping[str, Estimate]]]
    differences: Mapping[str, Mapping[str, Mapping[tuple[str, str], Estimate]]]
    counts: Mapping[str, int]
    spread: Mapping[str, Mapping[str, float]]
    notes: tuple[str, ...]
    options: Mapping[str, Any]


def compare(
    models: Sequence[ComparedModel],
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Comparison:
    """Compares models.

    Args:
      models: the models, each name once.
      level: the share of resamples inside an interval.
      resamples: the number of resamples.
      seed: the random seed.

    Raises:
      ValueError: there are fewer than two, they share no target, or they were measured
        on other images or labels, or by another convention.
    """
    if len(models) < 2:
        raise ValueError(f"expected at least two models to compare, got {len(models)}")
    convention = _one_convention(models)
    notes: list[str] = []
    metrics, differences, counts, spread = {}, {}, {}, {}
    for target, uids, tables in _paired(models, notes):
        weights = resampling.draw(len(uids), resamples, seed)
        values, resampled = _measure(target, tables, weights, convention)
        metrics[target.name] = _estimates(target, values, resampled, level)
        differences[target.name] = _differences(target, values, resampled, level)
        counts[target.name] = len(uids)
        spread[target.name] = dict(zip(uids, _spread(target, tables), strict=True))
    if not metrics:
        raise ValueError(
            f"the models share no target with labels: {'; '.join(notes) or 'none'}"
        )
    return Comparison(
        names=tuple(model.name for model in models),
        metrics=metrics,
        differences=differences,
        counts=counts,
        spread=spread,
        notes=tuple(notes),
        options={
            "level": level,
            "resamples": resamples,
            "seed": seed,
            "convention": convention,
        },
    )


def _one_convention(models: Sequence[ComparedModel]) -> str:
    found = {run.results.convention: run for model in models for run in model.runs}
    if len(found) > 1:
        raise ValueError(
            "expected one convention of metrics, got "
            + " and ".join(f"{k!r} ({v.source})" for k, v in found.items())
        )
    return next(iter(found))


def _paired(models: Sequence[ComparedModel], notes: list[str]):
    """Yields (target, uids, {model: rows of each run}) of the images that all have."""
    by_run = [
        (model.name, run, _by_target(run)) for model in models for run in model.runs
    ]
    _check_same_data(by_run)
    names = dict.fromkeys(name for _, _, found in by_run for name in found)
    for name in targets.ordered(names):
        target = targets.get(name)
        if target.kind not in (Kind.HEATMAP, Kind.SCORE, Kind.WORDS):
            continue
        having = [each for each in by_run if name in each[2]]
        lacking = list(dict.fromkeys(m for m, _, found in by_run if name not in found))
        having = [each for each in having if each[0] not in lacking]
        if lacking:
            notes.append(f"{name}: not compared with {', '.join(lacking)}, without it")
        if len({model for model, _, _ in having}) < 2:
            continue
        sizes = {run.image_size: run.source for _, run, _ in having}
        if target.kind is Kind.HEATMAP and len(sizes) > 1:
            told = " and ".join(f"{k} px ({v})" for k, v in sizes.items())
            notes.append(
                f"{name}: not compared, maps are measured at {told}; predict with each "
                "(--heatmaps=native) and compare the folders with one --labels"
            )
            continue
        uids = [
            uid
            for uid in having[0][2][name]
            if all(uid in found[name] for _, _, found in having)
        ]
        if left := max(len(found[name]) for _, _, found in having) - len(uids):
            notes.append(f"{name}: {left:,} images lack a prediction of some model")
        tables: dict[str, list[list[Row]]] = {}
        for model, _, found in having:
            tables.setdefault(model, []).append([found[name][uid] for uid in uids])
        if target.kind is Kind.WORDS:
            _cut_to_shared_words(target, tables, having[0][1].results.convention, notes)
        if uids:
            yield target, uids, tables


def _by_target(run: MeasuredRun) -> dict[str, dict[str, Row]]:
    found: dict[str, dict[str, Row]] = {}
    for row in run.results.rows:
        of_target = found.setdefault(row["target"], {})
        if row["uid"] in of_target:
            raise ValueError(
                f"{run.source}: two images are called {row['uid']!r}; images are paired "
                "by name, so each needs its own"
            )
        of_target[row["uid"]] = row
    return found


def _check_same_data(by_run) -> None:
    """Raises ValueError where two runs were measured on other images or labels."""
    (_, first, mine), *others = by_run
    for _, run, theirs in others:
        for name in filter(theirs.__contains__, mine):
            shared = [uid for uid in mine[name] if uid in theirs[name]]
            if not shared:
                raise ValueError(
                    f"{first.source} and {run.source} share no image with {name!r}: "
                    f"{next(iter(mine[name]))!r}, ... and "
                    f"{next(iter(theirs[name]))!r}, ...; were they measured on other "
                    "data or another split? --labels=W measures all on one task"
                )
            for uid in shared:
                if other := _other(mine[name][uid], theirs[name][uid]):
                    raise ValueError(
                        f"image {uid!r}, {name}: {first.source} and {run.source} have "
                        f"other labels: {other}; --labels=W measures all on one task"
                    )


def _other(mine: Row, theirs: Row) -> str:
    """Returns how the labels of two rows differ, "" if they do not."""
    if mine["prompt"].split() != theirs["prompt"].split():
        return f"prompt {mine['prompt']!r} and {theirs['prompt']!r}"
    if ("mse_empty" in mine) != ("mse_empty" in theirs):
        return "an empty heatmap and one that is not"
    a, b = mine.get("truth", 0.0), theirs.get("truth", 0.0)
    if isinstance(a, list) and isinstance(b, list):
        shared = min(len(a), len(b))  # the rest was cut from a long prompt
        return "" if a[:shared] == b[:shared] else f"words {a} and {b}"
    return "" if abs(a - b) <= _SAME else f"{a:.4g} and {b:.4g}"


def _cut_to_shared_words(target, tables, convention: str, notes: list[str]) -> None:
    """Cuts long prompts to the words that all models have read."""
    runs = [rows for found in tables.values() for rows in found]
    cut = 0
    for number in range(len(runs[0])):
        lengths = [len(rows[number]["truth"]) for rows in runs]
        if min(lengths) == max(lengths):
            continue
        cut += 1
        for rows in runs:
            row, shared = rows[number], min(lengths)
            rows[number] = row | recount(
                row["prediction"][:shared],
                row["truth"][:shared],
                cut=target.cut,
                convention=convention,
            )
    if cut:
        notes.append(f"{target.name}: {cut:,} prompts cut to the words that all read")


def _measure(target, tables, weights: np.ndarray, convention: str):
    """Returns `{metric: {model: [value of each run]}}`, and `{metric: {model: float[R]}}`,
    the mean over the runs in each resample."""
    values: dict[str, dict[str, list[float]]] = {}
    resampled: dict[str, dict[str, np.ndarray]] = {}
    for model, runs in tables.items():
        of_runs = []
        for rows in runs:
            whole = METRICS[target.kind](target, convention, rows).compute()
            for metric in NAMES[target.kind]:
                if metric in whole:
                    found = values.setdefault(metric, {})
                    found.setdefault(model, []).append(whole[metric])
            of_runs.append(resampling.measure(target, rows, weights, convention))
        for metric in of_runs[0]:
            if metric in values:
                mean = np.mean([each[metric] for each in of_runs], axis=0)
                resampled.setdefault(metric, {})[model] = mean
    return values, resampled


def _estimates(target, values, resampled, level: float):
    return {
        metric: {
            model: Estimate(
                value=math.fsum(runs) / len(runs),
                low=low,
                high=high,
                runs=tuple(runs),
                rank=_rank(model, values[metric], describe_metric(metric).better),
            )
            for model, runs in values[metric].items()
            for low, high in [resampling.interval(resampled[metric][model], level)]
        }
        for metric in NAMES[target.kind]
        if metric in values
    }


def _differences(target, values, resampled, level: float):
    found: dict[str, dict[tuple[str, str], Estimate]] = {}
    for metric in NAMES[target.kind]:
        if metric not in values:
            continue
        of_metric = found.setdefault(metric, {})
        for one, other in itertools.permutations(values[metric], 2):
            apart = resampled[metric][one] - resampled[metric][other]
            low, high = resampling.interval(apart, level)
            value = np.mean(values[metric][one]) - np.mean(values[metric][other])
            of_metric[one, other] = Estimate(value=float(value), low=low, high=high)
    return found


def _rank(model: str, values: Mapping[str, Sequence[float]], better: str):
    """Returns the mean rank of a run of the model beside one drawn of each other."""
    if not better:
        return None
    sign = 1 if better == "higher" else -1
    rank = 1.0
    for other, runs in values.items():
        if other == model:
            continue
        apart = sign * np.subtract.outer(runs, values[model])
        rank += float(np.mean((apart > 0) + 0.5 * (apart == 0)))
    return rank


def _spread(target, tables) -> list[float]:
    """Returns for each image how far the models' answers lie apart, in [0, 1].

    Of scores and words the largest difference of predictions, of heatmaps that of CC,
    or of the root of the squared error where the map is empty.
    """
    firsts = [runs[0] for runs in tables.values()]
    found = []
    for rows in zip(*firsts, strict=True):
        if target.kind is Kind.HEATMAP:
            answers = [
                [row["cc"] if "cc" in row else row["mse"] ** 0.5] for row in rows
            ]
        else:
            answers = [np.atleast_1d(row["prediction"]) for row in rows]
        apart = np.max(answers, axis=0) - np.min(answers, axis=0)
        found.append(float(np.max(apart, initial=0.0)))
    return found
