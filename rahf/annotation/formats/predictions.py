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

    Lines of images that predict could not read are left out, as is a last line that is
    cut in half.

    Args:
      path: predictions.jsonl, or another file of such lines, beside its heatmaps.
      folder: the folder of images.
      threshold: from this value on a peak of a heatmap is a point.

    Raises:
      ValueError: a line is wrong, an image is not in the folder or has changed; names
        the file and the line.
    """
    names = ImageNames(folder)
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = _parse(line)
                if row is None or "error" in row:
                    continue
                yield _read(row, path.parent, folder, names, threshold)
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                missing = "no field " if isinstance(error, KeyError) else ""
                raise ValueError(f"{path}, line {number}: {missing}{error}") from error


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

    A point stands for a disk of a twentieth of the height (`POINT_RADIUS`), so a place
    whose disk would touch that of a higher peak is no peak of its own. Where a peak has
    a flat top, its mean place counts.

    Args:
      heatmap: float32[H, W] in [0, 1].
      size: width and height of the image in pixels.
      threshold: the least value of a peak.

    Returns:
      At most `MOST` points (x, y) in pixels of the image, to a thousandth.
    """
    left = np.array(heatmap, np.float32)
    rows, columns = left.shape
    reach = max(1.0, 2 * POINT_RADIUS * rows)
    found = []
    while len(found) < MOST:
        row, column = divmod(int(left.argmax()), columns)
        value = left[row, column]
        if value <= 0 or value < threshold:
            break
        window, y0, x0 = _around(left, row, column, reach)
        parts, _ = ndimage.label(window == value)  # pyright: ignore
        down, across = np.nonzero(parts == parts[row - y0, column - x0])
        left[row, column] = 0  # even if its top is a ring around nothing
        row, column = down.mean() + y0, across.mean() + x0
        x, y = (column + 0.5) / columns * size[0], (row + 0.5) / rows * size[1]
        found.append((round(float(x), 3), round(float(y), 3)))
        window, y0, x0 = _around(left, row, column, reach)
        down, across = np.ogrid[: window.shape[0], : window.shape[1]]
        window[np.hypot(down + y0 - row, across + x0 - column) <= reach] = 0
    return tuple(found)


def _around(
    heatmap: np.ndarray, row: float, column: float, reach: float
) -> tuple[np.ndarray, int, int]:
    """Returns the part of a map within reach of a place, and its first row, column."""
    y0, x0 = max(0, math.floor(row - reach)), max(0, math.floor(column - reach))
    y1, x1 = math.ceil(row + reach) + 1, math.ceil(column + reach) + 1
    return heatmap[y0:y1, x0:x1], y0, x0
