"""The sources on the command line -> the list of (image, prompt) jobs to predict."""

import collections
import dataclasses
import hashlib
import itertools
import os
import pathlib
import re
from collections.abc import Container, Iterable, Iterator, Sequence
from typing import TypeVar, overload

from tqdm import tqdm

from rahf.inference.job_sources import (
    PROMPT_FILES,
    USUAL,
    Row,
    TableColumns,
    check_text,
    read_source,
    read_stdin,
)
from rahf.inference.scratch import Scratch, Tally, pack, unpack


@dataclasses.dataclass(frozen=True, slots=True)
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


class JobList(Sequence[Job]):
    """A list of jobs that is kept on disk; a million take a few megabytes of memory."""

    def __init__(self, jobs: Iterable[Job]):
        """Keeps the jobs; what `jobs` raises while it is read is raised."""
        self._scratch = Scratch(
            "jobs (number INTEGER PRIMARY KEY, id, image, prompt, name, base, place)"
        )
        self._length = self._scratch.fill(
            "INSERT INTO jobs VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                (number, *(pack(getattr(job, name)) for name in Job.__slots__))
                for number, job in enumerate(jobs)
            ),
        )

    def head(self, number: int | None) -> "JobList":
        """Returns the first jobs alone, of the same file; all of them for None."""
        found = object.__new__(JobList)
        found._scratch = self._scratch
        found._length = len(range(self._length)[:number])
        return found

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Job]:
        return self._between(0, self._length)

    @overload
    def __getitem__(self, which: int) -> Job: ...
    @overload
    def __getitem__(self, which: slice) -> list[Job]: ...
    def __getitem__(self, which: int | slice) -> Job | list[Job]:
        if isinstance(which, slice):
            numbers = range(self._length)[which]
            return [self[number] for number in numbers]
        number = range(self._length)[which]
        return next(self._between(number, number + 1))

    def _between(self, start: int, stop: int) -> Iterator[Job]:
        for _, *texts in self._scratch.rows(
            "SELECT * FROM jobs WHERE number >= ? AND number < ? ORDER BY number",
            start,
            stop,
        ):
            yield Job(*map(unpack, texts))


def read_jobs(
    sources: Sequence[str],
    prompt: str | None = None,
    *,
    columns: TableColumns = USUAL,
    recursive: bool = False,
) -> JobList:
    """Lists the jobs in image files, folders and tables.

    Rows are read one by one and kept on disk; of a JSON file alone all are in memory.

    Args:
      sources: each one of
        an image file, predicted with `prompt`;
        a folder: its images in order of name, without subfolders, with `prompt`; if
        `prompt` is None, the rows of the first of `PROMPT_FILES` in the folder;
        a JSONL file of {"image": path, "prompt": text, "id": optional text}, or a
        JSON file with a list of them;
        a CSV or TSV file with such columns (others are ignored);
        "-": JSON lines from standard input, with paths relative to the current folder.
        Fields may have any of the names in `IMAGE_FIELDS` and `PROMPT_FIELDS`. Image
        paths are relative to the folder of the file. A row without a prompt, or with
        an empty cell, uses `prompt`.
      prompt: the prompt of images that have none.
      columns: the fields of the tables.
      recursive: whether to search subfolders; an image's id is then its path in the
        folder.

    Returns:
      The jobs. Repeated ids get `-2`, `-3`, ... appended; ids given in rows have
      precedence.

    Raises:
      ValueError: a source is missing or empty, an image has no prompt, or a row is
        malformed; the message names file, line and field.
    """
    if prompt is not None:
        check_text("--prompt", prompt)
    rows = itertools.chain.from_iterable(
        _rows_of(source, prompt, columns, recursive) for source in sources
    )
    kept = Scratch("rows (number INTEGER PRIMARY KEY, id, image, prompt, place)")
    waiting = Tally(Scratch(), "ids")  # 1 = given in a row and not yet used

    def checked() -> Iterator[tuple]:
        for id_, *texts in _with_bar(rows, "read"):
            if id_ is not None:
                waiting[id_] = 1
            yield id_ if id_ is None else pack(id_), *map(pack, texts)

    number = kept.fill(
        "INSERT INTO rows (id, image, prompt, place) VALUES (?, ?, ?, ?)", checked()
    )
    return JobList(_with_bar(_named(kept, waiting), "list", number))


_T = TypeVar("_T")


def _with_bar(
    items: Iterable[_T], what: str, number: int | None = None
) -> Iterable[_T]:
    """Shows a bar if it takes longer than two seconds: nobody waits for a few images."""
    return tqdm(items, what, number, unit="image", delay=2, leave=False)


def _rows_of(
    source: str, prompt: str | None, columns: TableColumns, recursive: bool
) -> Iterator[Row]:
    if not source:  # an unset variable of a shell; not the current folder
        raise ValueError("expected an image, a folder or a table, got ''")
    if source == "-":
        return read_stdin(prompt, columns)
    return read_source(pathlib.Path(source), prompt, columns, recursive)


def _named(kept: Scratch, ids: Tally) -> Iterator[Job]:
    """Yields the jobs of rows, each with an id and a file name of its own."""
    scratch = Scratch()
    names, repeats = Tally(scratch, "names"), Tally(scratch, "repeats")
    for _, given, *texts in kept.rows("SELECT * FROM rows ORDER BY number"):
        image, prompt, place = map(unpack, texts)
        base = pathlib.PurePath(image).stem if given is None else unpack(given)
        free = given is not None and ids[base] == 1
        id_ = base if free else free_id(base, ids, repeats)
        ids[id_] = 0
        name = safe_name(id_, names)
        names[name.casefold()] = 1
        yield Job(id_, os.path.abspath(image), prompt, name, base, place)


def unread_prompts(sources: Sequence[str], prompt: str | None) -> list[tuple[str, str]]:
    """Returns folders whose prompt file `prompt` overrides, with that file's name."""
    found = []
    for source in sources if prompt is not None else ():
        names = [n for n in PROMPT_FILES if os.path.isfile(os.path.join(source, n))]
        if names:
            found.append((source, names[0]))
    return found


def free_id(
    base: str, taken: Container[str], repeats: collections.Counter[str] | Tally
) -> str:
    """Returns `base`, or if it is taken `base-2`, `base-3`, ...

    `repeats` keeps counts between calls, so that many equal names take linear time.
    """
    id_ = base
    while id_ in taken:
        repeats[base] += 1
        id_ = f"{base}-{repeats[base] + 1}"
    return id_


def safe_name(id_: str, taken: Container[str] = ()) -> str:
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
        return f"{name or 'image'}-{digest[:12]}"
    return id_  # not its copy: there may be a million
