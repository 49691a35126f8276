"""Reads what is to be labelled, as JSON lines or a JSON list.

    {"image": "cat.png", "prompt": "a yellow cat", "split": "train",
     "gold": {"scores": {...}, "implausible_points": [[50, 25]], ...},
     "guess": {"misaligned_words": [1]}}

`split`, `gold`, a known answer as `records.Feedback` has it, and `guess`, such a label
that a model made and that may lack anything, may be absent.
"""

import os
import pathlib
import posixpath
from collections.abc import Iterator
from typing import Any

from rahf import images, strict_json
from rahf.annotation.records import Feedback, RatingTask
from rahf.datasets.ratings.consolidation import POINTS
from rahf.datasets.splits import SPLITS
from rahf.inference.job_sources import USUAL, TableColumns

_FIELDS = {"image", "prompt", "split", "gold", "guess"}


def read_tasks(
    path: str | os.PathLike,
    folder: str | os.PathLike,
    columns: TableColumns = USUAL,
) -> Iterator[tuple[RatingTask, int, int]]:
    """Yields (task, width, height in pixels) of each line, or entry of a `.json` list.

    Args:
      path: the file.
      folder: the folder of images, which no image may leave.
      columns: other names of the fields `image` and `prompt`. Fields that are not known
        are then ignored; otherwise they are mistakes.

    Raises:
      ValueError: a line is wrong; names the file, the line and what was expected.
      OSError: the file cannot be read.
    """
    root = pathlib.Path(folder).resolve()
    for where, data in _entries(pathlib.Path(path)):
        try:
            row = strict_json.loads(data) if isinstance(data, str) else data
            yield _parse(row, root, columns)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}, {where}: {error}") from error


def _entries(path: pathlib.Path) -> Iterator[tuple[str, Any]]:
    """Yields (where, a line as text or an entry as decoded JSON)."""
    if path.suffix.lower() == ".json":
        try:
            listed = strict_json.loads(path.read_bytes().decode("utf-8-sig"))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}: not valid JSON: {error}") from error
        if not isinstance(listed, list) or any(isinstance(x, str) for x in listed):
            raise ValueError(f'{path}: expected a list, [{{"image": ...}}, ...]')
        yield from ((f"entry {n}", row) for n, row in enumerate(listed, 1))
        return
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                try:
                    text = line.decode("utf-8-sig")
                except UnicodeDecodeError as error:
                    raise ValueError(f"{path}, line {number}: {error}") from error
                yield f"line {number}", text


def find_image(root: pathlib.Path, name: str) -> pathlib.Path:
    """Returns the path of a listed image.

    Raises:
      ValueError: it lies outside the folder, also by way of a symbolic link.
    """
    path = (root / name).resolve()
    if not path.is_relative_to(root.resolve()):
        raise ValueError(f"image {name!r}: expected a path inside {root}")
    return path


def _check_pixels(label: Any, field: str, side: int) -> None:
    """Raises ValueError if all points look like the fractions of a raters' file."""
    if not isinstance(label, dict):
        return
    listed = [label.get(name) or () for name in POINTS]
    try:
        largest = max((max(point) for points in listed for point in points), default=2)
        small = 0 < largest <= 1 < side / 4
    except (TypeError, ValueError):
        return  # `Feedback.from_json` says what is wrong
    if small:
        raise ValueError(
            f"{field}: no point has more than {largest:g}; expected pixels of the "
            "image, not the fractions of a raters' file"
        )


def _parse(
    row: Any, root: pathlib.Path, columns: TableColumns
) -> tuple[RatingTask, int, int]:
    strict = columns == USUAL
    if not isinstance(row, dict) or (strict and not row.keys() <= _FIELDS):
        raise ValueError(
            f"expected an object with some of {sorted(_FIELDS)}, got {row!r:.80}; "
            "--image_column and --prompt_column read other files"
        )
    image, text = columns.image or "image", columns.prompt or "prompt"
    name, prompt = row.get(image), row.get(text) or ""
    if not isinstance(name, str) or not name or not isinstance(prompt, str):
        raise ValueError(f"expected {image!r}, and maybe {text!r}, as text")
    plain = posixpath.normpath(name)
    if plain != name or posixpath.isabs(name) or name.startswith("../"):
        raise ValueError(
            f"image {name!r}: expected its path inside {root}, such as "
            f"{posixpath.basename(plain)!r}, written in one way only"
        )
    if (split := row.get("split")) not in (None, *SPLITS):
        raise ValueError(f"split {split!r}: expected one of {', '.join(SPLITS)}")
    width, height = images.read_size(find_image(root, name))
    labels: dict[str, Feedback | None] = {}
    for field, complete in (("gold", True), ("guess", False)):
        label, size = row.get(field), {"width": width, "height": height}
        if label is not None:
            _check_pixels(label, field, max(width, height))
            label = Feedback.from_json(label, prompt=prompt, complete=complete, **size)
        labels[field] = label
    return RatingTask(image=name, prompt=prompt, split=split, **labels), width, height
