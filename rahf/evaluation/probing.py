"""Fits a probe (`rahf.baselines.probe`) to rated images and measures it honestly."""

import copy
import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from rahf import durable, targets
from rahf.baselines import probe as probes
from rahf.baselines import ridge
from rahf.baselines.frozen_eyes import FrozenEyes
from rahf.checkpoints import provenance
from rahf.datasets import rated_images, splits
from rahf.evaluation.cross_validation import pool
from rahf.evaluation.evaluate import Results
from rahf.evaluation.metrics.scores import plcc, srcc
from rahf.evaluation.metrics.table import METRICS
from rahf.targets import Kind
from rahf.weights import efficientnet

_FILES = ("scores.json", "scores.examples.jsonl")
_DRAWS = 1000  # of the bootstrap


@dataclasses.dataclass(frozen=True)
class _Rated:
    """Rated images whose pixels have been looked at; N images, K parts.

    Attributes:
      features: float32[N, F].
      uids, prompts: N each.
      values: score -> float64[N], NaN where it is not rated.
      part: int[N], the part of each.
      tested: the parts that are predicted from all others.
    """

    features: np.ndarray
    uids: list[str]
    prompts: list[str]
    values: dict[str, np.ndarray]
    part: np.ndarray
    tested: tuple[int, ...]

    def parts_of(self, name: str) -> tuple[list[np.ndarray], list[int]]:
        """Returns the rows of each part that are rated, and which parts are tested.

        Raises:
          ValueError: too few parts have ratings.
        """
        rated = np.isfinite(self.values[name])
        found = {i: np.flatnonzero(rated & (self.part == i)) for i in set(self.part)}
        found = {i: rows for i, rows in found.items() if len(rows)}
        tested = [place for place, i in enumerate(found) if i in self.tested]
        if len(found) < 3 or not tested:
            raise ValueError(
                f"{name}: expected rated images in at least 3 parts (folds, or the "
                f"splits train, dev and test), got {len(found)}; rate more, or map "
                "fewer columns"
            )
        return list(found.values()), tested


def run(
    config, workdir: str | os.PathLike, *, eyes: str, side: int, folds: int = 5
) -> str:
    """Looks at the images of a table, cross-validates, fits and writes a probe.

    Args:
      config: of configs/rated_images.py; `input.rated_images` is read. Where it names
        official splits, the test split is predicted from the others; else every fold.
      workdir: the folder to write to.
      eyes: one of `rahf.models.efficientnet.VERSIONS`.
      side: of its images, in pixels.
      folds: the number of folds, as for rahf.bin.cross_validate.

    Returns:
      What was measured, for people.

    Raises:
      ValueError: the config has no rated images, the table is wrong or too small, or
        the folder cannot be written to.
    """
    if "rated_images" not in config.input:
        raise ValueError(
            f"config.task.name={config.task.name!r}: a probe learns from a table of "
            "rated images; use --config=configs/rated_images.py:COLUMN:1-5->overall"
        )
    files = [probes.ABOUT_FILE, probes.ARRAYS_FILE, *_FILES]
    folder = durable.check_folder(workdir, files, flag="--workdir")
    rated = _look(config, FrozenEyes.load(eyes, side), folds)
    measured: dict[int, list[Results]] = {}
    ridges, lines = {}, []
    for name in rated.values:
        parts, tested = rated.parts_of(name)
        whole = parts
        if len(tested) < len(parts):  # an official test split stays a test
            whole = [rows for i, rows in enumerate(parts) if i not in tested]
        both = ridge.cross_validate(rated.features, rated.values[name], parts, tested)
        ridges[name] = ridge.choose(rated.features, rated.values[name], whole)
        lines.append(_describe(rated, name, *both))
        for i in tested:
            found = _results(rated, name, parts[i], both[0])
            measured.setdefault(int(rated.part[parts[i][0]]), []).append(found)
    results = _join([_merge(each) for _, each in sorted(measured.items())])
    results.facts |= {"probe": f"{eyes} at {side} pixels", "in_words": lines}
    results.write(folder, "scores")
    learned = provenance.make_learned(
        config, len(rated.uids), [efficientnet.origin(eyes)]
    )
    about = {"learned_from": learned, "task": config.task.name, "results": lines}
    probes.write(folder, probes.Probe.join(eyes, side, ridges, about))
    return "\n".join([results.table(), "", *lines, "", f"written: {folder}"])


def _look(config, eyes: FrozenEyes, folds: int) -> _Rated:
    """Reads the table and looks at its images once."""
    config = copy.deepcopy(config)
    rows: dict[str, list[Any]] = {"uid": [], "prompt": [], "part": [], "features": []}
    with config.unlocked():
        options = config.input.rated_images
        if official := bool(options.split):
            options.folds = 0
            named = [(split, 0) for split in splits.SPLITS]
        else:
            named = [("test", fold) for fold in range(folds)]
            options.folds = folds
        config.input.image_size = eyes.side
        sources = []
        for split, fold in named:
            options.fold = fold
            given = config.input.to_dict()
            sources.append(rated_images.make_records(split, given))
    names = sources[0].targets
    values: dict[str, list[float]] = {name: [] for name in names}

    def pictures(source) -> Iterator[np.ndarray]:
        for record in source:
            rows["uid"].append(record["uid"])
            rows["prompt"].append(record["prompt"])
            for name in names:
                values[name].append(record.get(targets.get(name).field, np.nan))
            yield record["image"]

    total = sum(map(len, sources))
    with tqdm(total=total, unit="image", desc="look") as bar:
        for part, source in enumerate(sources):
            for features in eyes.look(pictures(source)):
                rows["features"].append(features)
                rows["part"].append(part)
                bar.update()
    tested = (2,) if official else tuple(range(folds))
    return _Rated(
        features=np.stack(rows["features"]),
        uids=rows["uid"],
        prompts=rows["prompt"],
        values={name: np.array(found) for name, found in values.items()},
        part=np.array(rows["part"]),
        tested=tested,
    )


def _results(rated: _Rated, name: str, rows: np.ndarray, found: np.ndarray) -> Results:
    """Returns the metrics of one part, as `evaluate` would."""
    measured = METRICS[Kind.SCORE].empty(targets.get(name))
    uids = [rated.uids[row] for row in rows]
    measured.update(found[rows], rated.values[name][rows], None, uids)
    made = [
        {"uid": uid, "prompt": rated.prompts[row], "target": name, "truncated": False}
        for uid, row in zip(uids, rows, strict=True)
    ]
    return Results(
        metrics={name: measured.compute()},
        rows=[one | other for one, other in zip(made, measured.rows, strict=True)],
    )


def _merge(scores: Sequence[Results]) -> Results:
    """Joins the results of several scores in one part."""
    metrics = {k: v for each in scores for k, v in each.metrics.items()}
    return Results(metrics, [row for each in scores for row in each.rows])


def _join(parts: Sequence[Results]) -> Results:
    return pool(parts) if len(parts) > 1 else parts[0]


def _describe(rated: _Rated, name: str, found: np.ndarray, trivial: np.ndarray) -> str:
    """Returns how well a score is predicted, with intervals, in one line."""
    rows = np.flatnonzero(np.isfinite(found))
    found, trivial, truth = found[rows], trivial[rows], rated.values[name][rows]
    groups = [splits.name_group(rated.prompts[i], rated.uids[i]) for i in rows]
    draws = list(_draw(groups))
    error, other = np.square(found - truth), np.square(trivial - truth)

    def interval(measure: Callable[[np.ndarray], float]) -> str:
        low, high = np.quantile([measure(rows) for rows in draws], [0.025, 0.975])
        everything = measure(np.arange(len(truth)))
        return f"{everything:.2f} ({low:.2f} to {high:.2f})"

    gains = [1 - error[rows].mean() / max(other[rows].mean(), 1e-12) for rows in draws]
    low, high = np.quantile(gains, [0.025, 0.975])
    gain = 1 - error.mean() / max(other.mean(), 1e-12)
    line = (
        f"{name}: PLCC {interval(lambda r: plcc(found[r], truth[r]))}, "
        f"SRCC {interval(lambda r: srcc(found[r], truth[r]))}; squared error "
        f"{abs(gain):.0%} {'below' if gain >= 0 else 'above'} that of always saying the "
        f"mean ({-high:+.0%} to {-low:+.0%})"
    )
    return line if low > 0 else f"{line}: NOT SHOWN TO BE BETTER THAN THE MEAN"


def _draw(groups: Sequence[str]) -> Iterator[np.ndarray]:
    """Yields rows drawn by whole prompts, with replacement: int[...] each."""
    numbers = np.unique(np.array(groups), return_inverse=True)[1]
    members = [np.flatnonzero(numbers == i) for i in range(numbers.max() + 1)]
    random = np.random.default_rng(0)
    for _ in range(_DRAWS):
        chosen = random.integers(len(members), size=len(members))
        yield np.concatenate([members[i] for i in chosen])
