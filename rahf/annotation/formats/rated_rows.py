"""Lines of a raters' file with the sizes of their images, as exports need them."""

import dataclasses
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

from rahf import images, strict_json
from rahf.annotation.records import Answer
from rahf.annotation.task_files import find_image
from rahf.datasets.ratings import rating_files


@dataclasses.dataclass(frozen=True, kw_only=True)
class RatedRow:
    """One person's rating of one image.

    Attributes:
      row: the line of a raters' file; of a skipped image, one without labels.
      width, height: the image's size in pixels.
      skipped: why the image was skipped, None if it was not.
    """

    row: dict[str, Any]
    width: int
    height: int
    skipped: str | None = None


def from_answers(answers: Iterable[Answer]) -> Iterator[RatedRow]:
    """Yields the answers of a workdir, skips among them."""
    for answer in answers:
        width, height = answer.width, answer.height
        if answer.label is not None:
            yield RatedRow(row=answer.row(), width=width, height=height)
            continue
        row: dict[str, Any] = {"image": answer.image, "prompt": answer.prompt}
        row |= {"rater": answer.rater, "seconds": answer.seconds}
        if answer.split is not None:
            row["split"] = answer.split
        skipped = answer.skipped or ""
        yield RatedRow(row=row, skipped=skipped, width=width, height=height)


def from_file(
    path: str | pathlib.Path, folder: str | pathlib.Path
) -> Iterator[RatedRow]:
    """Yields the lines of a raters' file as they are.

    Args:
      path: JSON lines.
      folder: the folder of the images, for their sizes.

    Raises:
      RatingsError: the file has mistakes.
      ValueError: it does not exist, or an image is not in the folder.
    """
    path, folder = pathlib.Path(path), pathlib.Path(folder)
    if path.suffix.lower() in (".csv", ".tsv"):
        raise ValueError(f"{path}: expected JSON lines, got a table")
    rating_files.read(path)  # checks everything
    sizes: dict[str, tuple[int, int]] = {}
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            row = strict_json.loads(line.decode("utf-8-sig"))
            name = row["image"]
            if name not in sizes:
                try:
                    sizes[name] = images.read_size(find_image(folder, name))
                except ValueError as error:
                    raise ValueError(f"{path}, line {number}: {error}") from error
            yield RatedRow(row=row, width=sizes[name][0], height=sizes[name][1])
