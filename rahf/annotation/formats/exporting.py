"""Writes ratings in the form of a raters' file or of another tool."""

import json
import os
import pathlib
from collections.abc import Callable, Iterable
from typing import Any

from rahf import durable
from rahf.annotation.formats import coco, label_studio
from rahf.annotation.formats.rated_rows import RatedRow

_MAKERS: dict[str, Callable[[Iterable[RatedRow]], Any]] = {
    "label_studio": label_studio.make_tasks,
    "coco": coco.make,
}
#: The forms that there are; the first is the raters' file.
FORMATS = ("jsonl", *_MAKERS)


def write(ratings: Iterable[RatedRow], output: str | os.PathLike, form: str) -> int:
    """Writes ratings, whole or not at all, and returns how many there are.

    Args:
      ratings: of people and images; skipped images are in Label Studio's form only.
      output: the file.
      form: one of `FORMATS`.

    Raises:
      OSError: the file cannot be written.
    """
    ratings = list(ratings)
    answered = [rating.row for rating in ratings if rating.skipped is None]
    if form == "jsonl":
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in answered)
    else:
        made = _MAKERS[form](ratings)
        text = json.dumps(made, ensure_ascii=False, indent=1, allow_nan=False) + "\n"
    durable.write_text(pathlib.Path(output), text)
    return len(answered)
