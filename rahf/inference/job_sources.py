"""Image files, folders and tables -> rows of (id, image, prompt) to predict."""

import dataclasses
import functools
import json
import os
import pathlib
import re
import sys
from collections.abc import Iterator, Sequence

from absl import logging
from PIL import Image

from rahf import images, strict_json
from rahf.datasets.files.csv_table import (
    SEPARATORS,
    StrictReader,
    read_lines,
    read_text,
)
from rahf.inference.scratch import Scratch, pack, unpack

#: The suffixes of files that list jobs.
TABLES = (".jsonl", ".ndjson", ".json", *SEPARATORS)
#: The files that may hold a folder's prompts; `metadata` is the `datasets` library's
#: name.
PROMPT_FILES = ("prompts.jsonl", "prompts.csv", "metadata.jsonl", "metadata.csv")
#: The field names of the image and its prompt in tables; the first one present counts.
IMAGE_FIELDS = ("image", "file_name")
PROMPT_FIELDS = ("prompt", "caption", "text")
_SHARDS = (".tar", ".parquet")
#: The table that comes from standard input; a relative path, so that its images are
#: relative to the current folder.
_STDIN = pathlib.Path("standard input")
#: The suffixes of images in a folder; a file named directly may have any.
SUFFIXES = frozenset(
    {".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".gif", ".bmp"}
    | {".tif", ".tiff", ".avif", ".jp2", ".j2k", ".jpx", ".ppm", ".pgm", ".pbm"}
)


@dataclasses.dataclass(frozen=True)
class TableColumns:
    """The fields of a table's rows, where they have other names than the usual.

    Attributes:
      image, prompt, id: the name of the field; "" = the first of `IMAGE_FIELDS`, the
        first of `PROMPT_FIELDS`, or "id".
    """

    image: str = ""
    prompt: str = ""
    id: str = ""

    def fields(self, kind: str) -> Sequence[str]:
        """Returns the names that "image", "prompt" or "id" may have."""
        usual = {"image": IMAGE_FIELDS, "prompt": PROMPT_FIELDS, "id": ("id",)}
        given = getattr(self, kind)
        return (given,) if given else usual[kind]


#: Fields with the usual names.
USUAL = TableColumns()

#: An id or None, the image, its prompt, and the file and line of a table or "".
Row = tuple[str | None, str, str, str]


def read_source(
    source: pathlib.Path, prompt: str | None, columns: TableColumns, recursive: bool
) -> Iterator[Row]:
    """Yields the rows of one source; see `rahf.inference.jobs.read_jobs`."""
    if source.is_dir():
        yield from _read_folder(source, prompt, columns, recursive)
        return
    if source.suffix.lower() in _SHARDS:
        raise ValueError(
            f"{source}: expected images, or one of {', '.join(TABLES)}, got a shard; "
            f"python -m rahf.bin.score --checkpoint=W {source} --output=DIR scores it"
        )
    if not source.exists():
        raise ValueError(
            f"{source}: no such file or folder; expected an image, a folder, or one "
            f"of {', '.join(TABLES)}"
        )
    if source.suffix.lower() in TABLES:
        yield from _read_table(source, prompt, columns)
        return
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
    yield None, str(source), prompt, ""


def _read_folder(
    folder: pathlib.Path, prompt: str | None, columns: TableColumns, recursive: bool
) -> Iterator[Row]:
    if prompt is None:
        for name in PROMPT_FILES:
            if (folder / name).is_file():
                yield from _read_table(folder / name, prompt, columns)
                return
        raise ValueError(
            f"{folder}: the images have no prompts; give one for all (--prompt=...), "
            f"or one for each in {folder / PROMPT_FILES[0]}"
        )
    files, found, others = 0, 0, []
    for name in _sorted_files(folder, recursive):
        path, files = folder / name, files + 1
        if path.suffix.lower() in SUFFIXES or images.is_image(path):
            found += 1
            # With --recursive its path, because many folders hold a 0.png.
            id_ = pathlib.PurePath(name).with_suffix("").as_posix()
            yield id_ if recursive else None, str(path), prompt, ""
        elif len(others) < 6:
            others.append(path.name)
    if not found:
        raise ValueError(
            f"{folder}: no images found{_SEARCHED[recursive]}; it holds "
            f"{', '.join(others[:5]) or 'no files'}; expected "
            f"{', '.join(images.FORMATS)}"
        )
    if others:
        logging.warning(
            "%s: skipped %d of %d files, which are not %s: %s",
            folder,
            files - found,
            files,
            ", ".join(images.FORMATS),
            ", ".join(others[:5]) + (", ..." if len(others) > 5 else ""),
        )


_SEARCHED = {
    False: " (subfolders are searched with --recursive only)",
    True: " in it and its subfolders",
}


def _sorted_files(folder: pathlib.Path, recursive: bool) -> Iterator[str]:
    """Yields the paths in a folder of files that are not hidden, in order of names."""
    scratch = Scratch("files (path BLOB PRIMARY KEY) WITHOUT ROWID")
    # A folder's files together: no character of a name comes before NUL.
    paths = (pack(path).replace(b"/", b"\0") for path in _files(folder, recursive))
    scratch.fill("INSERT INTO files VALUES (?)", zip(paths))
    for (path,) in scratch.rows("SELECT path FROM files ORDER BY path"):
        yield unpack(path.replace(b"\0", b"/"))


def _files(folder: pathlib.Path, recursive: bool, below: str = "") -> Iterator[str]:
    """Yields paths in a folder; follows no links to folders."""
    try:
        entries = os.scandir(folder / below)
    except OSError as error:
        why = error.strerror or error
        raise ValueError(f"{folder / below}: cannot be read ({why})") from error
    with entries:
        for entry in entries:
            if entry.name[0] == ".":
                continue
            linked = entry.is_symlink() and os.path.isfile(entry)
            if linked or entry.is_file(follow_symlinks=False):
                yield below + entry.name
            elif recursive and entry.is_dir(follow_symlinks=False):
                yield from _files(folder, recursive, f"{below}{entry.name}/")


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


def _read_table(
    path: pathlib.Path, prompt: str | None, columns: TableColumns
) -> Iterator[Row]:
    parse = {".json": _json_rows}.get(path.suffix.lower(), _jsonl_rows)
    if path.suffix.lower() in SEPARATORS:
        parse = functools.partial(_csv_rows, names=columns.fields("image"))
    empty = True
    try:
        for number, row in parse(path):
            where = f"{path}, {number}"
            image = _text(where, row, columns.fields("image"))
            if not image:
                name = columns.image or "image"
                raise ValueError(f"{where}: field {name!r} is missing or empty")
            if re.match(r"[A-Za-z][\w+.-]*://", image):
                raise ValueError(
                    f"{where}: field 'image' must be a path, got {image}; download it"
                )
            text = _text(where, row, columns.fields("prompt"))
            name = columns.prompt or "prompt"
            check_text(f"{where}: field {name!r}", text or "")
            text = prompt if text is None else text
            if text is None:
                raise ValueError(
                    f"{where}: field {name!r} is missing or empty, and there is no "
                    "--prompt"
                )
            id_ = _id(where, row, columns.fields("id")[0])
            empty = False
            yield id_, os.path.join(path.parent, image), text, where
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from error
    if empty:
        raise ValueError(f"{path}: no rows found")


_Parsed = Iterator[tuple[str, dict]]  # "line 3", the row


def _jsonl_rows(path: pathlib.Path) -> _Parsed:
    lines = _stdin_lines() if path is _STDIN else read_lines(path)
    for number, line in enumerate(lines, 1):
        if line.strip():
            row = _parse_json(line, f"{path}, line {number}")
            yield f"line {number}", _object(row, f"{path}, line {number}")


def read_stdin(prompt: str | None, columns: TableColumns) -> Iterator[Row]:
    """Yields rows of JSON lines from standard input; see `read_source`."""
    return _read_table(_STDIN, prompt, columns)


def _stdin_lines() -> Iterator[str]:
    for number, line in enumerate(sys.stdin.buffer, 1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(
                f"standard input, line {number}: byte {error.start + 1} is not UTF-8; "
                "expected JSON lines"
            ) from None


def _json_rows(path: pathlib.Path) -> _Parsed:
    rows = _parse_json(read_text(path), str(path))
    if not isinstance(rows, list):
        raise ValueError(  # noqa: TRY004  the file is at fault, not the caller
            f"{path}: expected a list of rows, [{{...}}, ...], got "
            f"{json.dumps(rows)[:60]}; JSON lines belong in a .jsonl file"
        )
    for number, row in enumerate(rows, 1):
        yield f"row {number}", _object(row, f"{path}, row {number}")


def _csv_rows(path: pathlib.Path, names: Sequence[str]) -> _Parsed:
    reader = StrictReader(path, short=True)
    if not set(reader.columns) & set(names):
        raise ValueError(
            f"{path}, line 1: expected a column named "
            f"{' or '.join(map(repr, names))}, got {reader.columns}"
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


def _id(where: str, row: dict, field: str) -> str | None:
    value = row.get(field)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return _text(where, row, (field,)) or None


def check_text(what: str, text: str) -> None:
    """Raises ValueError if a text is not valid Unicode (has a lone surrogate)."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{what} is not valid Unicode: character {error.start + 1} is the lone "
            f"surrogate {text[error.start]!a}; write it as UTF-8"
        ) from None
