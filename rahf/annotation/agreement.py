"""How far raters of the same images agree, which bounds how well any model can do.

Krippendorff's alpha and Cohen's kappa come from NLTK's `AnnotationTask`; alpha allows
any number of raters, and missing answers. A value that the ratings do not define (one
rater per image, the same answer everywhere) is left out, never 0.
"""

import collections
import dataclasses
import itertools
import json
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from rahf import targets, words
from rahf.annotation.coefficients import (
    Triple,
    cohen_kappa,
    interval_distance,
    krippendorff_alpha,
    nominal_distance,
    ordinal_distance,
)
from rahf.datasets.ratings import consolidation, reliability
from rahf.datasets.ratings.consolidation import (
    LIKERT_POINTS,
    POINTS,
    SCORE_FIELDS,
    WORDS,
    WORDS_FIELD,
)
from rahf.datasets.ratings.rating_files import ImageRatings
from rahf.evaluation import text_tables
from rahf.evaluation.metrics import heatmaps as heatmap_metrics
from rahf.evaluation.metrics import scores as score_metrics

_NAMES = {row.field: row.name for row in targets.select(targets.FEEDBACK)}

# Height of the compared maps in pixels; a click's disk is 13 pixels across.
_HEIGHT = 128
# The largest difference that is "within one", with room for rounding.
_ONE = 1 + 1e-9


@dataclasses.dataclass
class RaterAgreement:
    """What `compute_agreement` found, in JSON-able form.

    Attributes:
      facts: the numbers of images, ratings and raters.
      scores, heatmaps, words: `{target: {metric: value}}`.
      raters: rater -> metrics of this rater against the others of each image.
      answers: score -> answer -> how often it was given.
      ious: target -> histogram of the IoU of rater pairs, ten bins from 0 to 1.
    """

    facts: dict[str, float]
    scores: dict[str, dict[str, float]]
    heatmaps: dict[str, dict[str, float]]
    words: dict[str, dict[str, float]]
    raters: dict[str, dict[str, float]]
    answers: dict[str, dict[str, int]]
    ious: dict[str, list[int]]

    def table(self) -> str:
        """Returns the metrics as aligned plain text."""
        parts = (self.scores, self.heatmaps, self.words, self.raters)
        return "\n\n".join(text_tables.render(part) for part in parts if part)

    def write(self, path: str | pathlib.Path) -> pathlib.Path:
        """Writes the JSON file, and creates its folders."""
        path = pathlib.Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(dataclasses.asdict(self), indent=2, ensure_ascii=False)
        path.write_text(text + "\n", encoding="utf-8")
        return path


def compute_agreement(
    rated: Sequence[ImageRatings],
    *,
    aspects: Mapping[str, float] | None = None,
    radius: float = consolidation.POINT_RADIUS,
    progress: bool = True,
) -> RaterAgreement:
    """Measures how far raters agree.

    Args:
      rated: the ratings, from `rahf.datasets.ratings.rating_files.read`.
      aspects: image -> width / height, for the shape of its maps; square if unknown.
      radius: the radius of the disk around a click, as a share of the height.
      progress: whether to draw a progress bar on stderr.

    Raises:
      ValueError: no image has two raters.
    """
    if max((len(each.ratings) for each in rated), default=0) < 2:
        raise ValueError("agreement needs an image with two raters, got none")
    per_rater = _Raters()
    counts = [len(each.ratings) for each in rated]
    raters = {rating["rater"] for each in rated for rating in each.ratings}
    for each in rated:
        for rating in each.ratings:
            per_rater.seen(rating)
    scores, answers = _scores(rated, per_rater)
    heatmaps, ious = _heatmaps(rated, aspects or {}, radius, per_rater, progress)
    found = RaterAgreement(
        facts={
            "images": len(rated),
            "ratings": sum(counts),
            "raters": len(raters),
            "fewest_ratings": min(counts),
            "most_ratings": max(counts),
        },
        scores=scores,
        heatmaps=heatmaps,
        words=_words(rated, per_rater, progress),
        raters={},
        answers=answers,
        ious=ious,
    )
    weights = {}
    if any(row["n"] for row in scores.values()):
        weights = reliability.rater_weights(each.ratings for each in rated)
    found.raters = per_rater.compute(weights)
    return found


def _scores(rated: Sequence[ImageRatings], per_rater: "_Raters") -> tuple[dict, dict]:
    results, counts = {}, {}
    for name in SCORE_FIELDS:
        triples = [
            (rating["rater"], each.image, answer)
            for each in rated
            for rating in each.ratings
            if (answer := rating.get("scores", {}).get(name)) is not None
        ]
        if not triples:
            continue
        given = collections.Counter(answer for *_, answer in triples)
        scale = {*given, *range(1, LIKERT_POINTS + 1)}  # also what nobody answered
        counts[name] = {f"{answer:g}": given[answer] for answer in sorted(scale)}
        rows = collections.defaultdict(list)
        images = 0
        paired = []
        for _, group in itertools.groupby(triples, key=lambda triple: triple[1]):
            group = list(group)
            if len(group) < 2:
                continue
            images += 1
            values = np.array([answer for *_, answer in group], np.float64)
            paired += values.tolist()
            apart = np.abs(values[:, None] - values)[np.triu_indices(len(values), 1)]
            rows["perfect"].append(values.max() == values.min())
            rows["within_one"].append(np.ptp(values) <= _ONE)
            rows["pairs_perfect"].append(np.mean(apart == 0))
            rows["pairs_within_one"].append(np.mean(apart <= _ONE))
            others = (values.sum() - values) / (len(values) - 1)
            for (rater, *_), own, rest in zip(group, values, others, strict=True):
                per_rater.score(rater, name, own, rest)
        alphas = {
            "alpha": krippendorff_alpha(triples, interval_distance),
            "alpha_ordinal": krippendorff_alpha(triples, ordinal_distance(paired)),
        }
        results[name] = _mean(rows) | _defined(alphas)
        results[name] |= {"n": images, "n_answers": len(paired)}
    return results, counts


def _heatmaps(
    rated, aspects, radius, per_rater: "_Raters", progress
) -> tuple[dict, dict]:
    rows = {entry: collections.defaultdict(list) for entry in POINTS}
    images = collections.Counter()
    for each in tqdm(rated, unit="image", leave=False, disable=not progress):
        width = round(_HEIGHT * min(max(aspects.get(each.image, 1.0), 1 / 8), 8))
        for entry in POINTS:
            given = [r for r in each.ratings if r.get(entry) is not None]
            if len(given) < 2:
                continue
            images[entry] += 1
            maps = np.stack(
                [
                    consolidation.point_map(
                        [r[entry]], size=(_HEIGHT, width), radius=radius
                    )
                    for r in given
                ]
            )
            _compare_maps(rows[entry], maps, [r["rater"] for r in given], per_rater)
    results, ious = {}, {}
    for entry, found in rows.items():
        if images[entry]:
            name = _NAMES[POINTS[entry]]
            ious[name] = np.histogram(found["iou"], 10, (0, 1))[0].tolist()
            results[name] = _mean(found) | {
                "n": images[entry],
                "n_pairs": len(found["iou"]),
            }
    return results, ious


def _compare_maps(rows, maps: np.ndarray, raters, per_rater: "_Raters") -> None:
    """Adds the raters of one image: each pair, and each rater against the others."""
    marked = [bool(each.any()) for each in maps]
    for one, other in itertools.combinations(range(len(maps)), 2):
        rows["same_presence"].append(marked[one] == marked[other])
        if marked[one] or marked[other]:  # else there is no union
            both = np.minimum(maps[one], maps[other]).sum()
            rows["iou"].append(both / np.maximum(maps[one], maps[other]).sum())
    total = maps.sum(axis=0)
    for index, rater in enumerate(raters):
        others = (total - maps[index]) / (len(maps) - 1)
        if (others > 0).any():
            for name, metric in (
                ("auc_judd", heatmap_metrics.auc_judd),
                ("cc", heatmap_metrics.cc),
            ):
                value = metric(maps[index], others)
                rows[name].append(value)
                per_rater.add(rater, name, value)


def _words(rated, per_rater: "_Raters", progress) -> dict:
    triples: list[Triple] = []
    pairs = collections.defaultdict(list)
    images = marked = 0
    for each in tqdm(rated, unit="image", leave=False, disable=not progress):
        given = [r for r in each.ratings if r.get(WORDS) is not None]
        number = len(words.split(each.prompt or ""))
        if len(given) < 2 or not number:
            continue
        images += 1
        labels = np.zeros((len(given), number), int)
        for row, rating in enumerate(given):
            labels[row, list(rating[WORDS])] = 1
        marked += int((2 * labels.sum(axis=0) > len(given)).sum())
        names = [rating["rater"] for rating in given]
        for row, rater in enumerate(names):
            triples += [
                (rater, (each.image, word), label)
                for word, label in enumerate(labels[row].tolist())
            ]
            others = np.delete(labels, row, axis=0)
            majority = 2 * others.sum(axis=0) > len(others)
            per_rater.word_pairs[rater] += zip(
                labels[row].tolist(), majority.astype(int).tolist(), strict=True
            )
        for one, other in itertools.combinations(range(len(given)), 2):
            key = names[one], names[other]
            pairs[tuple(sorted(key))] += [
                pair if key[0] <= key[1] else pair[::-1]
                for pair in zip(
                    labels[one].tolist(), labels[other].tolist(), strict=True
                )
            ]
    if not images:
        return {}
    kappas = [(cohen_kappa(each), len(each)) for each in pairs.values()]
    known = [(kappa, weight) for kappa, weight in kappas if kappa is not None]
    total = sum(weight for _, weight in known)
    kappa = math.fsum(k * w for k, w in known) / total if total else None
    alpha = krippendorff_alpha(triples, nominal_distance)
    numbers = len({item for _, item, _ in triples})
    found = _defined({"kappa": kappa, "alpha_nominal": alpha})
    found |= {"n": images, "n_words": numbers, "n_misaligned": marked}
    return {_NAMES[WORDS_FIELD]: found}


class _Raters:
    """Gathers how each rater compares with the others."""

    def __init__(self):
        self.word_pairs = collections.defaultdict(list)
        self._images = collections.Counter()
        self._seconds = collections.defaultdict(list)
        self._scores = collections.defaultdict(list)
        self._values = collections.defaultdict(list)

    def seen(self, rating: Mapping[str, Any]) -> None:
        self._images[rating["rater"]] += 1
        if rating.get("seconds") is not None:
            self._seconds[rating["rater"]].append(rating["seconds"])

    def score(self, rater: str, name: str, own: float, others: float) -> None:
        self._scores[rater, name].append((own, others))

    def add(self, rater: str, name: str, value: float) -> None:
        self._values[rater, name].append(value)

    def compute(self, weights: Mapping[str, float]) -> dict[str, dict[str, float]]:
        results = {}
        for rater, images in self._images.items():
            rows = [self._scores.get((rater, name)) for name in SCORE_FIELDS]
            pairs = [np.array(row) for row in rows if row]
            found: dict[str, float | None] = {}
            if pairs:
                apart = np.concatenate([pair[:, 0] - pair[:, 1] for pair in pairs])
                found["bias"] = float(apart.mean())
                found["deviation"] = float(np.abs(apart).mean())
                # PLCC needs variety in the rater's own answers and in the others'.
                moved = [p for p in pairs if len(p) > 2 and np.ptp(p, axis=0).all()]
                following = [score_metrics.plcc(*p.T) for p in moved]
                found["plcc"] = float(np.mean(following)) if following else None
            for name in ("auc_judd", "cc"):
                if values := self._values.get((rater, name)):
                    found[name] = math.fsum(values) / len(values)
            if rater in self.word_pairs:
                found["kappa"] = cohen_kappa(self.word_pairs[rater])
            found["weight"] = weights.get(rater)
            if rater in self._seconds:
                found["seconds"] = float(np.median(self._seconds[rater]))
            results[rater] = _defined(found) | {"n_ratings": images}
        return results


def _mean(rows: Mapping[str, Sequence[float]]) -> dict[str, float]:
    return {name: float(np.mean(row)) for name, row in rows.items() if row}


def _defined(values: Mapping[str, float | None]) -> dict[str, float]:
    return {name: value for name, value in values.items() if value is not None}
