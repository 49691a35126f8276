"""What the command line names -> the list of (image, prompt) jobs to predict."""

import collections
import csv
import dataclasses
import hashlib
import json
import os
import pathlib
import re
from collections.abc import Collection, Iterator, Sequence

from rahf.datasets.files.csv_table import StrictReader

#: Read as lists of jobs.
TABLES = (".jsonl", ".ndjson", ".csv")
#: Looked for in a folder when no prompt is given.
PROMPT_FILES = ("prompts.jsonl", "prompts.csv")
#: Which files of a folder are images; a file named directly may be called anything.
SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"}
    | {".jp2", ".ppm", ".pgm"}
)


@dataclasses.dataclass(frozen=True)
class Job:
    """One prediction to make.

    Attributes:
      id: unique within the list: the row's `id`, or else the image's file name
        without its suffix.
      image: absolute path.
      prompt: as given; may be empty.
      name: `id` as a safe file name, for the files that are written.
    """

    id: str
    image: str
    prompt: str
    name: str


def read_jobs(sources: Sequence[str], prompt: str | None = None) -> list[Job]:
    """Lists the jobs that image files, folders, JSONL and CSV files stand for.

    Args:
      sources: each one of
        an image file, predicted with `prompt`;
        a folder: its images (not those of its subfolders), in the order of their
        names, with `prompt`; or without one, the rows of its `prompts.jsonl` or
        `prompts.csv`;
        a JSONL file of {"image": path, "prompt": text, "id": optional text};
        a CSV file with such columns (others are ignored). Image paths in either are
        relative to the file's own folder, and a row without a prompt takes `prompt`.
      prompt: the text of the images that come without one.

    Returns:
      The jobs. An id that occurs twice gets `-2`, `-3`, ... appended.

    Raises:
      ValueError: a source is missing or empty, an image has no prompt, or a row is
        malformed: the message has file, line and field.
    """
    rows = []
    for source in sources:
        rows.extend(_read_source(pathlib.Path(source), prompt))
    jobs, ids, names, repeats = [], set(), set(), collections.Counter()
    for given, image, text in rows:
        id_ = stem = image.stem if given is None else given
        while id_ in ids:
            repeats[stem] += 1
            id_ = f"{stem}-{repeats[stem] + 1}"
        name = safe_name(id_, names)
        ids.add(id_)
        names.add(name.casefold())
        jobs.append(Job(id_, os.path.abspath(image), text, name))
    return jobs


_Row = tuple[str | None, pathlib.Path, str]  # id, image, prompt


def _read_source(source: pathlib.Path, prompt: str | None) -> list[_Row]:
    if source.is_dir():
        return _read_folder(source, prompt)
    if not source.exists():
        raise ValueError(
            f"{source}: no such file or folder; expected an image, a folder, or one "
            f"of {', '.join(TABLES)}"
        )
    if source.suffix.lower() in TABLES:
        return _read_table(source, prompt)
    if prompt is None:
        raise ValueError(
            f"{source}: an image needs its prompt: --prompt='what it should show' "
            f"(or a JSONL or CSV file with image and prompt)"
        )
    return [(None, source, prompt)]


def _read_folder(folder: pathlib.Path, prompt: str | None) -> list[_Row]:
    if prompt is None:
        for name in PROMPT_FILES:
            if (folder / name).is_file():
                return _read_table(folder / name, prompt)
        raise ValueError(
            f"{folder}: no prompt; give one for all its images (--prompt=...), or "
            f"put one for each into {folder / PROMPT_FILES[0]}"
        )
    found = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES)
    if not found:
        raise ValueError(
            f"{folder}: holds no image; looked for {' '.join(sorted(SUFFIXES))}"
        )
    return [(None, image, prompt) for image in found]


def _read_table(path: pathlib.Path, prompt: str | None) -> list[_Row]:
    parse = _csv_rows if path.suffix.lower() == ".csv" else _jsonl_rows
    rows = []
    try:
        # utf-8-sig: spreadsheets like to put a byte order mark first.
        with path.open(encoding="utf-8-sig", newline="") as file:
            for number, row in parse(path, file):
                where = f"{path}, line {number}"
                image = _text(where, row, "image")
                if not image:
                    raise ValueError(f"{where}: field 'image' is missing or empty")
                text = _text(where, row, "prompt")
                text = prompt if text is None else text
                if text is None:
                    raise ValueError(
                        f"{where}: field 'prompt' is missing, and no --prompt is given"
                    )
                rows.append((_text(where, row, "id"), path.parent / image, text))
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected UTF-8 text; {error}") from error
    if not rows:
        raise ValueError(f"{path}: holds no rows")
    return rows


def _jsonl_rows(path: pathlib.Path, file) -> Iterator[tuple[int, dict]]:
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}, line {number}: not JSON: {error}") from error
        if not isinstance(row, dict):
            raise ValueError(  # noqa: TRY004  the file is at fault, not the caller
                f'{path}, line {number}: expected {{"image": ..., "prompt": ...}}, '
                f"got {line.strip()[:60]}"
            )
        yield number, row


def _csv_rows(path: pathlib.Path, file) -> Iterator[tuple[int, dict]]:
    reader = StrictReader(file, short=True)
    try:
        if "image" not in reader.columns:
            raise ValueError(
                f"{path}, line 1: expected a column named 'image', got {reader.columns}"
            )
        for row in reader:
            yield reader.line_num, row
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: {error}") from error


def _text(where: str, row: dict, field: str) -> str | None:
    value = row.get(field)
    if field == "id":
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        value = value or None
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{where}: field {field!r} must be text, got {value!r}")
    return value


def safe_name(id_: str, taken: Collection[str] = ()) -> str:
    """A file name that stays inside its folder, on any file system.

    Where it cannot be the id itself, a digest of the id follows, so that no other id
    gets the same name, in this run or in a later one. `taken` holds names in lower
    case: some file systems do not tell the two apart.
    """
    name = re.sub(r"[^\w.\-]", "_", id_).strip(".")
    # 255 bytes is the usual limit, and a target's name and a suffix are to come.
    name = name.encode("utf-8", "replace")[:150].decode("utf-8", "ignore")
    if name != id_ or name.casefold() in taken:
        digest = hashlib.sha256(id_.encode("utf-8", "surrogatepass")).hexdigest()
        name = f"{name or 'image'}-{digest[:12]}"
    return name
