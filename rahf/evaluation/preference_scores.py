"""Scores both images of each pair that people compared, by a model or from a file."""

import dataclasses
import itertools
import json
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from rahf import images
from rahf.datasets.preference_pairs import Pair, Preferences
from rahf.evaluation.preferences import Agreement, choose_threshold, measure

if TYPE_CHECKING:
    from rahf.inference.predictor import Predictor

Scores = Mapping[str, float]
#: Pairs -> for each the scores of its two images, or None where it was left out.
Scorer = Callable[[Sequence[Pair]], list[tuple[Scores, Scores] | None]]


@dataclasses.dataclass
class Scored:
    """Pairs with their scores.

    Attributes:
      rows: a JSON-able mapping each: `uids`, `prompt`, `label`, and `scores`, by
        name, of the two images.
      skipped: why pairs were left out, one line each.
      unlabelled: rows of the files that nobody had labelled.
    """

    rows: list[dict] = dataclasses.field(default_factory=list)
    skipped: list[str] = dataclasses.field(default_factory=list)
    unlabelled: int = 0

    def names(self) -> list[str]:
        """The scores that every image has, in order."""
        shared: dict[str, None] | None = None
        for row in self.rows:
            for scores in row["scores"]:
                known = scores if shared is None else shared
                shared = {name: None for name in known if name in scores}
        return list(shared or ())

    def arrays(self, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns differences float[N], labels float[N] and prompts [N]."""
        differences = [r["scores"][0][name] - r["scores"][1][name] for r in self.rows]
        return (
            np.array(differences, np.float64),
            np.array([row["label"] for row in self.rows], np.float64),
            np.array([row["prompt"] for row in self.rows]),
        )


def by_model(
    predictor: "Predictor", *, batch_size: int = 16, on_error: str = "fail"
) -> Scorer:
    """Scores by a checkpoint.

    Args:
      predictor: what `rahf.load` returned.
      batch_size: images at a time.
      on_error: "fail" or "skip" at images that cannot be read.
    """

    def score(pairs: Sequence[Pair]) -> list[tuple[Scores, Scores] | None]:
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


def by_file(path: str | pathlib.Path, *, on_error: str = "fail") -> Scorer:
    """Scores from a file: any model's, or those of `rahf.bin.predict`.

    Args:
      path: JSON lines of {"id": the image's uid, "scores": {name: number}}, as in
        predictions.jsonl; lines with "error" are passed over.
      on_error: "fail" or "skip" at images that are not in it.

    Raises:
      ValueError: a line is malformed.
    """
    known: dict[str, Scores] = {}
    path = pathlib.Path(path)
    try:
        lines = path.read_text("utf-8").split("\n")  # U+2028 may stand in a prompt
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read ({error})") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            if "error" not in row:
                scores = {name: float(value) for name, value in row["scores"].items()}
                known[str(row["id"])] = scores
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f'{path}, line {number}: expected {{"id": uid, "scores": {{name: '
                f"number}}}}, got {line[:60]} ({error!r})"
            ) from error

    def score(pairs: Sequence[Pair]) -> list[tuple[Scores, Scores] | None]:
        found = []
        for pair in pairs:
            absent = [uid for uid in pair.uids if uid not in known]
            if absent and on_error == "fail":
                raise ValueError(
                    f"{path}: no line with id {absent[0]!r} ({pair.where}); score all "
                    "images, or leave such pairs out by --on_error=skip"
                )
            found.append(None if absent else (known[pair.uids[0]], known[pair.uids[1]]))
        return found

    return score


def score_pairs(
    pairs: Preferences,
    scorer: Scorer,
    *,
    examples: int = 0,
    at_once: int = 8,
    progress: bool = True,
) -> Scored:
    """Scores pairs, a few at a time: images are not kept.

    Args:
      pairs: the source.
      scorer: `by_model` or `by_file`.
      examples: the first so many labelled pairs, 0 = all.
      at_once: pairs given to the scorer.
      progress: whether to draw a progress bar on stderr.

    Returns:
      The pairs with their scores.

    Raises:
      ValueError: no pair is left.
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
            f"no pair to measure: {scored.unlabelled} have no label, "
            f"{len(scored.skipped)} were skipped"
        )
    return scored


def compare(
    scored: Scored,
    tuning: Scored | None = None,
    *,
    threshold: float = 0.0,
    candidates: str = "all",
    resamples: int = 2000,
) -> dict[str, Agreement]:
    """Measures every score that all images have.

    Args:
      scored: the pairs to measure.
      tuning: other pairs, to choose each score's threshold for ties on.
      threshold: the one to take where there are none.
      candidates, resamples: see `rahf.evaluation.preferences`.

    Returns:
      Name of a score -> its agreement.
    """
    agreements = {}
    names = scored.names()
    if tuning is not None:
        names = [name for name in names if name in tuning.names()]
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
    """Decodes both images, or returns None where that fails and may."""
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
                "or leave such pairs out by --on_error=skip",
            ) from error
    return pictures, pair.prompt
