"""The output of rahf.bin.predict as images to label, with what the model thinks.

A model's guess has the form of a rater's answer: the peaks of each heatmap as points,
the words that it calls misaligned, and its scores on the raters' scale.
"""

import json
import math
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from absl import logging
from scipy import ndimage

from rahf import images, strict_json, targets, words
from rahf.annotation.formats.image_names import ImageNames
from rahf.annotation.records import Feedback, RatingTask
from rahf.annotation.task_files import find_image
from rahf.datasets.ratings.consolidation import (
    LIKERT_POINTS,
    POINT_RADIUS,
    POINTS,
    SCORE_FIELDS,
)
from rahf.inference import image_stamps
from rahf.targets import Kind

FILE = "predictions.jsonl"
#: From this value on a peak of a heatmap is a point: the table's own threshold.
THRESHOLD = targets.get("implausibility").threshold or 0.3
#: The most points of a guess in one heatmap.
MOST = 20
# Entry of an answer -> name of the heatmap that has the same label.
_HEATMAPS = {
    entry: row.name
    for entry, field in POINTS.items()
    for row in targets.select(targets.FEEDBACK, Kind.HEATMAP)
    if row.field == field
}


def is_prediction(row: Any) -> bool:
    """Returns whether a decoded line is one of rahf.bin.predict."""
    return isinstance(row, dict) and {"image", "prompt", "checkpoint"} <= row.keys()


def read_tasks(
    path: pathlib.Path, folder: pathlib.Path, *, threshold: float = THRESHOLD
) -> Iterator[tuple[RatingTask, int, int]]:
    """Yields (task with its guess, width, height in pixels) of each prediction.

    Lines of images that predict could not read are left out with a warning, as is a
    last line that is cut in half.

    Args:
      path: predictions.jsonl, or another file of such lines, beside its heatmaps.
      folder: the folder of images.
      threshold: from this value on a peak of a heatmap is a point.

    Raises:
      ValueError: a line is wrong, an image is not in the folder or has changed; names
        the file and the line.
    """
    names, unread, bare = ImageNames(folder), 0, 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = _parse(line)
                if row is None or "error" in row:
                    unread += 1
                    continue
                bare += not row.get("heatmaps")
                yield _read(row, path.parent, folder, names, threshold)
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                missing = "no field " if isinstance(error, KeyError) else ""
                raise ValueError(f"{path}, line {number}: {missing}{error}") from error
    if unread:
        logging.warning("%s: %d images were not predicted, left out", path, unread)
    if bare:
        logging.warning(
            "%s: %d images have no heatmaps, so their guesses have no points",
            path,
            bare,
        )


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        row = strict_json.loads(line)
    except ValueError:
        if not line.endswith(b"\n"):
            return None
        raise
    if not is_prediction(row):
        raise ValueError(f"expected a line of rahf.bin.predict, got {line[:60]!r}")
    return row


def _read(row, beside, folder, names, threshold) -> tuple[RatingTask, int, int]:
    name = names.find(str(row["image"]))
    place = find_image(folder, name)
    if image_stamps.has_changed(str(place), row):
        raise ValueError(f"{place} is another image than was predicted; predict again")
    width, height = images.read_size(place)
    prompt = row["prompt"]
    points: dict[str, Any] = {
        entry: _points(row, target, beside, (width, height), threshold)
        for entry, target in _HEATMAPS.items()
    }
    guess = Feedback(
        **points,
        misaligned_words=_words(row.get("words") or [], prompt),
        scores=_scores(row.get("scores") or {}),
    )
    task = RatingTask(image=name, prompt=prompt, guess=guess)
    return task, width, height


def _points(row, target, beside, size, threshold) -> tuple[tuple[float, float], ...]:
    path = (row.get("heatmaps") or {}).get(target)
    if path is None:  # predict wrote no heatmaps
        return ()
    return find_peaks(images.read_heatmap(beside / path), size, threshold=threshold)


def _words(listed: list[dict[str, Any]], prompt: str) -> tuple[int, ...]:
    known = words.split(prompt)
    said = [word["text"] for word in listed]
    if said != known[: len(said)]:  # a long prompt may have been cut
        raise ValueError(f"field 'words': expected {known}, got {json.dumps(said)}")
    return tuple(number for number, word in enumerate(listed) if word["misaligned"])


def _scores(scores: dict[str, Any]) -> dict[str, int]:
    return {name: to_answer(scores[name]) for name in SCORE_FIELDS if name in scores}


def to_answer(score: float) -> int:
    """Returns the answer, 1 to 5, nearest to a score in [0, 1]; halves go up."""
    answer = math.floor(1 + (LIKERT_POINTS - 1) * score + 0.5)
    return min(max(answer, 1), LIKERT_POINTS)


def find_peaks(
    heatmap: np.ndarray, size: tuple[int, int], *, threshold: float
) -> tuple[tuple[float, float], ...]:
    """Finds the peaks of a heatmap, the highest first.

    A point stands for a disk of a twentieth of the height (`POINT_RADIUS`), so a peak
    is a place than which none is higher within twice that, as far as disks touch. A
    flat top counts once, at its middle.

    Args:
      heatmap: float32[H, W] in [0, 1].
      size: width and height of the image in pixels.
      threshold: the least value of a peak.

    Returns:
      At most `MOST` points (x, y) in pixels of the image, to a thousandth.
    """
    heatmap = np.asarray(heatmap, np.float32)
    rows, columns = heatmap.shape
    reach = max(1, round(2 * POINT_RADIUS * rows))
    highest = ndimage.maximum_filter(heatmap, size=2 * reach + 1, mode="constant")
    at_top = (heatmap == highest) & (heatmap >= threshold) & (heatmap > 0)
    tops, _ = ndimage.label(at_top, structure=np.ones((3, 3)))  # pyright: ignore
    peaks = []
    for number, part in enumerate(ndimage.find_objects(tops), 1):
        inside = np.argwhere(tops[part] == number)
        inside = inside + (part[0].start, part[1].start)
        off = np.linalg.norm(inside - inside.mean(0), axis=1)
        row, column = inside.mean(0)
        if off.min() > 1:  # the middle of a ring or a bow is no part of it
            row, column = inside[off.argmin()]
        peaks.append((-float(heatmap[tuple(inside[0])]), row, column))
    kept: list[tuple[float, float]] = []
    for _, row, column in sorted(peaks):
        if all(np.hypot(row - y, column - x) > reach for y, x in kept):
            kept.append((row, column))
    width, height = size
    return tuple(
        (
            round(float((column + 0.5) / columns * width), 3),
            round(float((row + 0.5) / rows * height), 3),
        )
        for row, column in kept[:MOST]
    )
