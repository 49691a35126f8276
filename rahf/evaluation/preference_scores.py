"""Scores both images of each compared pair, by a model or from a file."""

import dataclasses
import itertools
import json
import math
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from absl import logging
from tqdm import tqdm

from rahf import images
from rahf.applications.prediction_lines import read_lines
from rahf.datasets.preference_pairs import Pair, Preferences
from rahf.evaluation.preferences import PreferenceAgreement, choose_threshold, measure
from rahf.inference.stream import chunk_by_bytes

if TYPE_CHECKING:
    from rahf.inference.predictor import Predictor

Scores = Mapping[str, float]
_LINE = '{"id": uid, "scores": {name: number}}'
#: Pairs -> the scores of each pair's two images, or None if it was left out.
Scorer = Callable[[Sequence[Pair]], list[tuple[Scores, Scores] | None]]


@dataclasses.dataclass
class Scored:
    """Pairs with their scores.

    Attributes:
      rows: one JSON-able mapping per pair: `uids`, `prompt`, `label`, and `scores`,
        the two images' scores by name.
      skipped: one line for each pair that was left out.
      unlabelled: the number of rows without a label.
    """

    rows: list[dict] = dataclasses.field(default_factory=list)
    skipped: list[str] = dataclasses.field(default_factory=list)
    unlabelled: int = 0

    def names(self) -> list[str]:
        """Returns the names of the scores that every image has, in order."""
        shared: dict[str, None] | None = None
        for row in self.rows:
            for scores in row["scores"]:
                known = scores if shared is None else shared
                shared = {name: None for name in known if name in scores}
        return list(shared or ())

    def arrays(self, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns differences float[N], labels float[N] and prompts [N]."""
        differences = [r["scores"][0][name] - r["scores"][1][name] for r in self.rows]
        # A numpy string array would take as much memory for each as for the longest.
        prompts = np.array([row["prompt"] for row in self.rows], object)
        labels = np.array([row["label"] for row in self.rows], np.float64)
        return np.array(differences, np.float64), labels, prompts


def by_model(
    predictor: "Predictor", *, batch_size: int = 16, on_error: str = "fail"
) -> Scorer:
    """Returns a scorer that runs a checkpoint.

    Args:
      predictor: the predictor from `rahf.load`.
      batch_size: images per batch.
      on_error: "fail" to raise if an image cannot be read, "skip" to leave its pair
        out.
    """

    def score(pairs: Sequence[Pair]) -> list[tuple[Scores, Scores] | None]:
        found = []
        for some in chunk_by_bytes(pairs, max(1, batch_size // 2), _decoded_bytes):
            found += score_at_once(some)
        return found

    def score_at_once(pairs: Sequence[Pair]) -> list[tuple[Scores, Scores] | None]:
        read = [_read(pair, on_error) for pair in pairs]
        whole = [pair for pair in read if pair is not None]
        predictions = predictor.predict(
            [image for pictures, _ in whole for image in pictures],
            [prompt for _, prompt in whole for _ in range(2)],
            batch_size=batch_size,
        )
        scores = iter([prediction.scores for prediction in predictions])
        return [None if pair is None else (next(scores), next(scores)) for pair in read]

    return score


def _decoded_bytes(pair: Pair) -> int:
    return sum(map(images.measure, pair.images or ()))


def by_file(path: str | pathlib.Path, *, on_error: str = "fail") -> Scorer:
    """Returns a scorer that reads a file: any model's, or that of `rahf.bin.predict`.

    Args:
      path: JSON lines of {"id": the image's uid, "scores": {name: number}}, as in
        predictions.jsonl, or Parquet files of rahf.bin.score, or a folder or glob of
        either; lines with "error" are ignored.
      on_error: "fail" to raise if the file lacks an image, or one of its scores,
        "skip" to leave the pair out.

    Raises:
      ValueError: a line is malformed, or an id appears twice; the message names the
        line.
    """
    known, lines = _read_scores(pathlib.Path(path))
    names = dict.fromkeys(name for scores in known.values() for name in scores)

    def problem(uid: str) -> str | None:
        if uid not in known:
            return f"{path}: no line with id {uid!r}"
        if lacks := [name for name in names if name not in known[uid]]:
            return (
                f"{lines[uid]}: id {uid!r} has no score "
                f"{', '.join(map(repr, lacks))}, which other lines have"
            )
        return None

    def score(pairs: Sequence[Pair]) -> list[tuple[Scores, Scores] | None]:
        found = []
        for pair in pairs:
            problems = [text for uid in pair.uids if (text := problem(uid))]
            if problems and on_error == "fail":
                raise ValueError(
                    f"{problems[0]} ({pair.where}); score all images, or leave such "
                    "pairs out with --on_error=skip"
                )
            first, second = pair.uids
            found.append(None if problems else (known[first], known[second]))
        return found

    return score


def _read_scores(path: pathlib.Path) -> tuple[dict[str, Scores], dict[str, str]]:
    """Returns the scores of each id, and where its line is."""
    known: dict[str, Scores] = {}
    line_of: dict[str, str] = {}
    for place, _, row in read_lines(path, _LINE):
        try:
            if "error" in row:
                continue
            uid, scores = row["id"], dict(row["scores"].items())
            if isinstance(uid, bool) or not isinstance(uid, str | int):
                raise TypeError(f"id {uid!r} is not text")
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{place}: expected {_LINE}, got {json.dumps(row)[:60]} ({error!r})"
            ) from error
        for name, value in scores.items():
            if not _is_number(value):
                raise ValueError(
                    f"{place}: score {name!r} of id {uid!r}: expected a "
                    f"finite number, got {value!r:.60}"
                )
        uid = str(uid)
        if uid in known:
            first = line_of[uid].removeprefix(f"{place.rpartition(', ')[0]}, ")
            raise ValueError(
                f"{place}: id {uid!r} appears twice, first in {first}; keep one of the lines"
            )
        known[uid], line_of[uid] = {n: float(v) for n, v in scores.items()}, place
    return known, line_of


def _is_number(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value)


def check_pairs(pairs: Preferences, *, examples: int = 0) -> None:
    """Reads all pairs once, to find malformed ones before any is scored.

    Args:
      pairs: the source; its images are read if it reads images, but not decoded.
      examples: how many labelled pairs to check, from the first; 0 = all.

    Raises:
      ValueError: a row is malformed or has no image; the message names file and row.
    """
    for _ in itertools.islice(iter(pairs), examples or None):
        pass


def score_pairs(
    pairs: Preferences,
    scorer: Scorer,
    *,
    examples: int = 0,
    at_once: int = 8,
    progress: bool = True,
) -> Scored:
    """Scores pairs, a few at a time, so that few images are held in memory.

    Args:
      pairs: the source.
      scorer: the scorer, from `by_model` or `by_file`.
      examples: how many labelled pairs to score, from the first; 0 = all.
      at_once: how many pairs to pass to the scorer at once.
      progress: whether to draw a progress bar on stderr.

    Returns:
      The pairs with their scores.

    Raises:
      ValueError: no pair is left, or a score is not finite; the message names the
        image.
    """
    scored = Scored()
    source: Iterable[Pair] = itertools.islice(iter(pairs), examples or None)
    with tqdm(
        total=examples or len(pairs), unit="pair", leave=False, disable=not progress
    ) as bar:
        while chunk := list(itertools.islice(source, at_once)):
            for pair, scores in zip(chunk, scorer(chunk), strict=True):
                if scores is None:
                    scored.skipped.append(pair.where)
                    continue
                _check_finite(pair, scores)
                scored.rows.append(
                    {
                        "uids": list(pair.uids),
                        "prompt": pair.prompt,
                        "label": pair.label,
                        "scores": [dict(each) for each in scores],
                    }
                )
            bar.update(len(chunk))
    scored.unlabelled = pairs.unlabelled
    if not scored.rows:
        raise ValueError(
            f"no pairs to measure: {scored.unlabelled} have no label, "
            f"{len(scored.skipped)} were skipped"
        )
    return scored


def _check_finite(pair: Pair, scores: tuple[Scores, Scores]) -> None:
    for uid, each in zip(pair.uids, scores, strict=True):
        for name, value in each.items():
            if not math.isfinite(value):
                raise ValueError(
                    f"{pair.where}: score {name!r} of image {uid!r} is {value}"
                )


def compare(
    scored: Scored,
    tuning: Scored | None = None,
    *,
    threshold: float = 0.0,
    candidates: str = "all",
    resamples: int = 2000,
) -> dict[str, PreferenceAgreement]:
    """Measures every score that all images have; warns about the others.

    Args:
      scored: the pairs to measure.
      tuning: other pairs, used to choose each score's tie threshold.
      threshold: the tie threshold if `tuning` is None.
      candidates, resamples: see `rahf.evaluation.preferences`.

    Returns:
      The agreement of each score, by name.
    """
    agreements = {}
    names = scored.names()
    if tuning is not None:
        names = [name for name in names if name in tuning.names()]
    rows = scored.rows + (tuning.rows if tuning is not None else [])
    given = dict.fromkeys(n for row in rows for each in row["scores"] for n in each)
    for name in given:
        if name not in names:
            logging.warning("score %r is not measured: some images lack it", name)
    for name in names:
        chosen = threshold
        if tuning is not None:
            differences, labels, _ = tuning.arrays(name)
            chosen = choose_threshold(differences, labels, candidates=candidates)
        agreements[name] = measure(
            *scored.arrays(name), threshold=chosen, resamples=resamples
        )
    return agreements


def _read(pair: Pair, on_error: str) -> tuple[list[np.ndarray], str] | None:
    """Decodes both images; returns None if one fails and `on_error` is "skip"."""
    pictures = []
    for column, data in zip(("jpg_0", "jpg_1"), pair.images or (), strict=True):
        try:
            pictures.append(images.read_image(data))
        except images.ImageError as error:
            if on_error == "skip":
                return None
            raise images.ImageError(
                f"{pair.where}, field {column!r}",
                "an image",
                f"this: {error}",
                "or leave such pairs out with --on_error=skip",
            ) from error
    return pictures, pair.prompt
