"""Writes ratings in the form of a raters' file or of another tool."""

import json
import os
import pathlib
from collections.abc import Iterable

from rahf import durable
from rahf.annotation.formats import coco, label_studio
from rahf.annotation.formats.rated_rows import RatedRow

#: The forms that there are; the first is the raters' file.
FORMATS = ("jsonl", "label_studio", "coco")


def write(
    ratings: Iterable[RatedRow],
    output: str | os.PathLike,
    form: str,
    *,
    image_prefix: str = "",
) -> int:
    """Writes ratings, whole or not at all, and returns how many there are.

    Args:
      ratings: of people and images; skipped images are in Label Studio's form only.
      output: the file.
      form: one of `FORMATS`.
      image_prefix: see `label_studio.make_tasks`.

    Raises:
      OSError: the file cannot be written.
    """
    ratings = list(ratings)
    answered = [rating.row for rating in ratings if rating.skipped is None]
    if form == "jsonl":
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in answered)
    else:
        if form == "coco":
            made = coco.make(ratings)
        else:
            made = label_studio.make_tasks(ratings, image_prefix=image_prefix)
        text = json.dumps(made, ensure_ascii=False, indent=1, allow_nan=False) + "\n"
    durable.write_text(pathlib.Path(output), text)
    return len(answered)
