"""Files of prompts -> the prompts."""

import io
import os
import pathlib
from collections.abc import Iterator

from rahf import strict_json
from rahf.datasets.files.csv_table import SEPARATORS, StrictReader, read_text

#: The names of a prompt's field; the first one present counts.
FIELDS = ("prompt", "caption", "text")


def read_prompts(path: str | os.PathLike) -> list[str]:
    """Reads the prompts of a file, in order, repeated ones too.

    Args:
      path: a text file of a prompt a line; JSON lines of objects, or a CSV or TSV file,
        with one of `FIELDS`, such as what rahf.bin.predict takes.

    Raises:
      ValueError: the file is missing or has no prompts, or a line none; names it.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise ValueError(
            f"{path}: no such file; expected prompts, one a line, or JSON lines or a "
            f"CSV table with a field {' or '.join(map(repr, FIELDS))}"
        )
    suffix = path.suffix.lower()
    if suffix in SEPARATORS:
        rows = _table_rows(path)
    elif suffix in (".jsonl", ".ndjson"):
        rows = _json_rows(path)
    else:
        rows = _lines(path)
    prompts = []
    for number, prompt in rows:
        if not isinstance(prompt, str) or not prompt.strip():
            raise ValueError(
                f"{path}, line {number}: expected a prompt in one of the fields "
                f"{', '.join(FIELDS)}, got {prompt!r}"
            )
        prompts.append(prompt)
    if not prompts:
        raise ValueError(f"{path}: no prompts found")
    return prompts


def _field(row) -> object:
    return next((row[name] for name in FIELDS if row.get(name) is not None), None)


def _lines(path: pathlib.Path) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(io.StringIO(read_text(path), newline=None), 1):
        if line.strip():
            yield number, line.strip()


def _table_rows(path: pathlib.Path) -> Iterator[tuple[int, object]]:
    reader = StrictReader(path, short=True)
    for row in reader:
        yield reader.line, _field(row)


def _json_rows(path: pathlib.Path) -> Iterator[tuple[int, object]]:
    for number, line in _lines(path):
        try:
            row = strict_json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}, line {number}: {error}") from error
        yield number, _field(row) if isinstance(row, dict) else row
