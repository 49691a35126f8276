"""The sources on the command line -> the list of (image, prompt) jobs to predict."""

import collections
import dataclasses
import hashlib
import io
import json
import os
import pathlib
import re
from collections.abc import Collection, Iterator, Sequence

from absl import logging
from PIL import Image

from rahf import images, strict_json
from rahf.datasets.files.csv_table import SEPARATORS, StrictReader, read_text

#: The suffixes of files that list jobs.
TABLES = (".jsonl", ".ndjson", ".json", *SEPARATORS)
#: The files that may hold a folder's prompts; `metadata` is the `datasets` library's
#: name.
PROMPT_FILES = ("prompts.jsonl", "prompts.csv", "metadata.jsonl", "metadata.csv")
#: The field names of the image and its prompt in tables; the first one present counts.
IMAGE_FIELDS = ("image", "file_name")
PROMPT_FIELDS = ("prompt", "caption", "text")
#: The suffixes of images in a folder; a file named directly may have any.
SUFFIXES = frozenset(
    {".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".gif", ".bmp"}
    | {".tif", ".tiff", ".avif", ".jp2", ".j2k", ".jpx", ".ppm", ".pgm", ".pbm"}
)


@dataclasses.dataclass(frozen=True)
class Job:
    """One prediction to make.

    Attributes:
      id: the row's `id`, or the image's file name without its suffix; unique within
        the list.
      image: the absolute path.
      prompt: the prompt as given; may be empty.
      name: `id` as a safe file name, for the files that are written.
      base: `id` before `-2`, `-3`, ... was appended; "" = the same.
      where: the file and line of the row; "" = the image was named directly, or found
        in a folder.
    """

    id: str
    image: str
    prompt: str
    name: str
    base: str = ""
    where: str = ""


def read_jobs(sources: Sequence[str], prompt: str | None = None) -> list[Job]:
    """Lists the jobs in image files, folders and tables.

    Args:
      sources: each one of
        an image file, predicted with `prompt`;
        a folder: its images in order of name, without subfolders, with `prompt`; if
        `prompt` is None, the rows of the first of `PROMPT_FILES` in the folder;
        a JSONL file of {"image": path, "prompt": text, "id": optional text}, or a
        JSON file with a list of them;
        a CSV or TSV file with such columns (others are ignored).
        Fields may have any of the names in `IMAGE_FIELDS` and `PROMPT_FIELDS`. Image
        paths are relative to the folder of the file. A row without a prompt, or with
        an empty cell, uses `prompt`.
      prompt: the prompt of images that have none.

    Returns:
      The jobs. Repeated ids get `-2`, `-3`, ... appended; ids given in rows have
      precedence.

    Raises:
      ValueError: a source is missing or empty, an image has no prompt, or a row is
        malformed; the message names file, line and field.
    """
    if prompt is not None:
        check_text("--prompt", prompt)
    rows = []
    for source in sources:
        if not source:  # an unset variable of a shell; not the current folder
            raise ValueError("expected an image, a folder or a table, got ''")
        rows.extend(_read_source(pathlib.Path(source), prompt))
    jobs, names, repeats = [], set(), collections.Counter()
    waiting = {row[0] for row in rows}  # ids given in rows and not yet used
    ids = set(waiting)
    for given, image, text, *where in rows:
        base = image.stem if given is None else given
        if given is not None and given in waiting:
            waiting.remove(given)
            id_ = given
        else:
            id_ = free_id(base, ids, repeats)
        name = safe_name(id_, names)
        ids.add(id_)
        names.add(name.casefold())
        jobs.append(Job(id_, os.path.abspath(image), text, name, base, *where))
    return jobs


def unread_prompts(sources: Sequence[str], prompt: str | None) -> list[tuple[str, str]]:
    """Returns folders whose prompt file `prompt` overrides, with that file's name."""
    found = []
    for source in sources if prompt is not None else ():
        names = [n for n in PROMPT_FILES if os.path.isfile(os.path.join(source, n))]
        if names:
            found.append((source, names[0]))
    return found


def free_id(
    base: str, taken: Collection[str], repeats: collections.Counter[str]
) -> str:
    """Returns `base`, or if it is taken `base-2`, `base-3`, ...

    `repeats` keeps counts between calls, so that many equal names take linear time.
    """
    id_ = base
    while id_ in taken:
        repeats[base] += 1
        id_ = f"{base}-{repeats[base] + 1}"
    return id_


# id, image, prompt; from a table also file and line
_Row = tuple[str | None, pathlib.Path, str] | tuple[str | None, pathlib.Path, str, str]


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
    if not _may_be_image(source):
        raise ValueError(
            f"{source}: not an image; expected one ({', '.join(images.FORMATS)}), "
            f"a folder of images, or one of {', '.join(TABLES)}"
        )
    if prompt is None:
        raise ValueError(
            f"{source}: the image has no prompt; give --prompt='what it should show', "
            f"or a table with image and prompt ({', '.join(TABLES)})"
        )
    return [(None, source, prompt)]


def _read_folder(folder: pathlib.Path, prompt: str | None) -> list[_Row]:
    if prompt is None:
        for name in PROMPT_FILES:
            if (folder / name).is_file():
                return _read_table(folder / name, prompt)
        raise ValueError(
            f"{folder}: the images have no prompts; give one for all (--prompt=...), "
            f"or one for each in {folder / PROMPT_FILES[0]}"
        )
    files = sorted(p for p in folder.iterdir() if p.is_file() and p.name[0] != ".")
    chosen = {p: p.suffix.lower() in SUFFIXES or images.is_image(p) for p in files}
    found = [path for path in files if chosen[path]]
    others = [path.name for path in files if not chosen[path]]
    if not found:
        raise ValueError(
            f"{folder}: no images found (subfolders are not searched); it holds "
            f"{', '.join(others[:5]) or 'no files'}; expected "
            f"{', '.join(images.FORMATS)}"
        )
    if others:
        logging.warning(
            "%s: skipped %d of %d files, which are not %s: %s",
            folder,
            len(others),
            len(files),
            ", ".join(images.FORMATS),
            ", ".join(others[:5]) + (", ..." if len(others) > 5 else ""),
        )
    return [(None, image, prompt) for image in found]


def _may_be_image(path: pathlib.Path) -> bool:
    """Returns whether a file has the name of an image, or begins like one."""
    if Image.registered_extensions().get(path.suffix.lower()) in images.FORMATS:
        return True  # if it is damaged, reading it will say so
    try:
        with Image.open(path, formats=images.FORMATS):
            return True
    except Image.UnidentifiedImageError:
        return False
    except Exception:  # noqa: BLE001  damaged or unreadable: reading it will say so
        return True


def _read_table(path: pathlib.Path, prompt: str | None) -> list[_Row]:
    parse = {".json": _json_rows}.get(path.suffix.lower(), _jsonl_rows)
    if path.suffix.lower() in SEPARATORS:
        parse = _csv_rows
    rows = []
    try:
        for number, row in parse(path):
            where = f"{path}, {number}"
            image = _text(where, row, IMAGE_FIELDS)
            if not image:
                raise ValueError(f"{where}: field 'image' is missing or empty")
            if re.match(r"[A-Za-z][\w+.-]*://", image):
                raise ValueError(
                    f"{where}: field 'image' must be a path, got {image}; download it"
                )
            text = _text(where, row, PROMPT_FIELDS)
            check_text(f"{where}: field 'prompt'", text or "")
            text = prompt if text is None else text
            if text is None:
                raise ValueError(
                    f"{where}: field 'prompt' is missing or empty, and there is no "
                    "--prompt"
                )
            rows.append((_id(where, row), path.parent / image, text, where))
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from error
    if not rows:
        raise ValueError(f"{path}: no rows found")
    return rows


_Parsed = Iterator[tuple[str, dict]]  # "line 3", the row


def _jsonl_rows(path: pathlib.Path) -> _Parsed:
    for number, line in enumerate(io.StringIO(read_text(path), newline=""), 1):
        if line.strip():
            row = _parse_json(line, f"{path}, line {number}")
            yield f"line {number}", _object(row, f"{path}, line {number}")


def _json_rows(path: pathlib.Path) -> _Parsed:
    rows = _parse_json(read_text(path), str(path))
    if not isinstance(rows, list):
        raise ValueError(  # noqa: TRY004  the file is at fault, not the caller
            f"{path}: expected a list of rows, [{{...}}, ...], got "
            f"{json.dumps(rows)[:60]}; JSON lines belong in a .jsonl file"
        )
    for number, row in enumerate(rows, 1):
        yield f"row {number}", _object(row, f"{path}, row {number}")


def _csv_rows(path: pathlib.Path) -> _Parsed:
    reader = StrictReader(path, short=True)
    if not set(reader.columns) & set(IMAGE_FIELDS):
        raise ValueError(
            f"{path}, line 1: expected a column named "
            f"{' or '.join(map(repr, IMAGE_FIELDS))}, got {reader.columns}"
        )
    for row in reader:
        # An empty cell counts as missing.
        yield f"line {reader.line}", {k: v for k, v in row.items() if v.strip()}


def _parse_json(text: str, where: str):
    try:
        return strict_json.loads(text)
    except strict_json.RepeatedKeyError as error:
        raise ValueError(f"{where}: {error}") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where}: not valid JSON: {error}") from error


def _object(row, where: str) -> dict:
    if not isinstance(row, dict):
        raise ValueError(  # noqa: TRY004  the file is at fault, not the caller
            f'{where}: expected {{"image": ..., "prompt": ...}}, got '
            f"{json.dumps(row)[:60]}"
        )
    return row


def _text(where: str, row: dict, names: Sequence[str]) -> str | None:
    """Returns the value of the first of these fields that a row has."""
    field = next((name for name in names if row.get(name) is not None), None)
    if field is None:
        return None
    value = row[field]
    if not isinstance(value, str):
        raise ValueError(  # noqa: TRY004  the file is at fault, not the caller
            f"{where}: field {field!r} must be text, got {value!r:.60}"
        )
    return value


def _id(where: str, row: dict) -> str | None:
    value = row.get("id")
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return _text(where, row, ("id",)) or None


def check_text(what: str, text: str) -> None:
    """Raises ValueError if a text is not valid Unicode (has a lone surrogate)."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{what} is not valid Unicode: character {error.start + 1} is the lone "
            f"surrogate {text[error.start]!a}; write it as UTF-8"
        ) from None


def safe_name(id_: str, taken: Collection[str] = ()) -> str:
    """Returns a file name that stays inside its folder, on any file system.

    If that is not the id itself, a digest of the id is appended, so that no other id
    gets the same name, in this run or a later one. `taken` holds names in lower case,
    as some file systems ignore case.
    """
    name = re.sub(r"[^\w.\-]", "_", id_).strip(".")
    # The usual limit is 255 bytes; a target's name and a suffix will be appended.
    name = name.encode("utf-8", "replace")[:150].decode("utf-8", "ignore")
    if name != id_ or name.casefold() in taken:
        digest = hashlib.sha256(id_.encode("utf-8", "surrogatepass")).hexdigest()
        name = f"{name or 'image'}-{digest[:12]}"
    return name
