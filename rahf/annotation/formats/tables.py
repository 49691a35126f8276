"""Images to label in tables and folders that other programs wrote."""

import os
import pathlib
from collections.abc import Iterator, Sequence

from absl import logging

from rahf import images
from rahf.annotation.records import RatingTask
from rahf.annotation.task_files import find_image
from rahf.datasets.files.csv_table import StrictReader
from rahf.datasets.splits import NAMES
from rahf.inference import job_sources
from rahf.inference.job_sources import TableColumns

_Task = tuple[RatingTask, int, int]


def read_csv(
    path: pathlib.Path, folder: pathlib.Path, columns: TableColumns
) -> Iterator[_Task]:
    """Yields (task, width, height in pixels) of each row of a CSV or TSV table.

    Args:
      path: the file; it needs a column of images, and may have prompt and split.
        Others are ignored, an empty cell is the same as none.
      folder: the folder that images are relative to.
      columns: the columns' names.

    Raises:
      ValueError: the table or a row is wrong; names the file and the line.
    """
    reader = StrictReader(path, short=True)
    named = {}
    for kind in ("image", "prompt"):
        names = columns.fields(kind)
        named[kind] = next((name for name in names if name in reader.columns), None)
        required = kind == "image" or columns.prompt
        if named[kind] is None and required:
            raise ValueError(
                f"{path}, line 1: expected a column named "
                f"{' or '.join(map(repr, names))}, got {reader.columns}"
            )
    for cells in reader:
        where = f"{path}, line {reader.line}"
        cells = {name: cell for name, cell in cells.items() if cell.strip()}
        image = cells.get(named["image"] or "")
        if image is None:
            raise ValueError(f"{where}: column {named['image']!r} is empty")
        split = cells.get("split")
        if split is not None and split.lower() not in NAMES:
            raise ValueError(
                f"{where}: split {split!r}: expected one of {', '.join(NAMES)}"
            )
        split = split and NAMES[split.lower()]
        prompt = cells.get(named["prompt"] or "") or ""
        yield _make(where, folder, image, prompt, split)


def read_folder(
    path: pathlib.Path,
    folder: pathlib.Path,
    columns: TableColumns,
    *,
    recursive: bool = False,
) -> Iterator[_Task]:
    """Yields (task, width, height in pixels) of the images of a folder.

    Args:
      path: the folder: the rows of the first of `job_sources.PROMPT_FILES` in it, whose
        images are relative to it, or else its images in order of name, without prompts.
      folder: the same folder, or one above it, which no image may leave.
      columns: the names of the rows' fields.
      recursive: whether to search subfolders for images.

    Raises:
      ValueError: there are no images, or a row is wrong; names the file and the line.
    """
    lists = (path / name for name in job_sources.PROMPT_FILES)
    table = next((one for one in lists if one.is_file()), path)
    rows = list(job_sources.read_source(table, "", columns, recursive))
    if table != path:
        _warn_unlisted(path, table, [image for _, image, *_ in rows], recursive)
    for _, image, prompt, place in rows:
        name = os.path.relpath(os.path.abspath(image), os.path.abspath(folder))
        yield _make(place or str(path), folder, name, prompt, None)


def _warn_unlisted(path, table, listed: Sequence[str], recursive: bool) -> None:
    """Says which images of a folder are left out, because its table lacks them."""
    files = path.rglob("*") if recursive else path.iterdir()
    names = [
        os.path.relpath(file, path)
        for file in sorted(files)
        if file.suffix.lower() in job_sources.SUFFIXES and file.name[0] != "."
    ]
    known = {os.path.relpath(image, path) for image in listed}
    if left := [name for name in names if name not in known]:
        more = ", ..." if len(left) > 5 else ""
        logging.warning(
            "%s: %d of %d images are not in %s and are left out: %s",
            path,
            len(left),
            len(names),
            table.name,
            ", ".join(left[:5]) + more,
        )


def _make(where, folder, image: str, prompt: str, split: str | None) -> _Task:
    try:
        name = str(pathlib.PurePath(image))
        job_sources.check_text("the prompt", prompt)
        width, height = images.read_size(find_image(folder, name))
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    return RatingTask(image=name, prompt=prompt, split=split), width, height
