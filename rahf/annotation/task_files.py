"""Reads what is to be labelled, as JSON lines.

    {"image": "cat.png", "prompt": "a yellow cat", "split": "train",
     "gold": {"scores": {...}, "implausible_points": [[50, 25]], ...},
     "guess": {"misaligned_words": [1]}}

`split`, `gold`, a known answer as `records.Feedback` has it, and `guess`, such a label
that a model made and that may lack anything, may be absent.
"""

import os
import pathlib
from collections.abc import Iterator

from rahf import images, strict_json
from rahf.annotation.records import Feedback, RatingTask
from rahf.datasets.splits import SPLITS

_FIELDS = {"image", "prompt", "split", "gold", "guess"}


def read_tasks(
    path: str | os.PathLike, folder: str | os.PathLike
) -> Iterator[tuple[RatingTask, int, int]]:
    """Yields (task, width, height in pixels) of each line.

    Args:
      path: the file.
      folder: the folder of images, which no image may leave.

    Raises:
      ValueError: a line is wrong; names the file, the line and what was expected.
      OSError: the file cannot be read.
    """
    root = pathlib.Path(folder).resolve()
    with pathlib.Path(path).open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                yield _parse(line, root)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{path}, line {number}: {error}") from error


def find_image(root: pathlib.Path, name: str) -> pathlib.Path:
    """Returns the path of a listed image.

    Raises:
      ValueError: it lies outside the folder, also by way of a symbolic link.
    """
    path = (root / name).resolve()
    if not path.is_relative_to(root.resolve()):
        raise ValueError(f"image {name!r}: expected a path inside {root}")
    return path


def _parse(line: bytes, root: pathlib.Path) -> tuple[RatingTask, int, int]:
    row = strict_json.loads(line.decode("utf-8-sig"))
    if not isinstance(row, dict) or not row.keys() <= _FIELDS:
        raise ValueError(f"expected an object with some of {sorted(_FIELDS)}")
    name, prompt = row.get("image"), row.get("prompt") or ""
    if not isinstance(name, str) or not name or not isinstance(prompt, str):
        raise ValueError("expected 'image', and maybe 'prompt', as text")
    if (split := row.get("split")) not in (None, *SPLITS):
        raise ValueError(f"split {split!r}: expected one of {', '.join(SPLITS)}")
    width, height = images.read_size(find_image(root, name))
    labels: dict[str, Feedback | None] = {}
    for field, complete in (("gold", True), ("guess", False)):
        label, size = row.get(field), {"width": width, "height": height}
        if label is not None:
            label = Feedback.from_json(label, prompt=prompt, complete=complete, **size)
        labels[field] = label
    return RatingTask(image=name, prompt=prompt, split=split, **labels), width, height
