"""The sources on the command line -> the list of (image, prompt) jobs to predict."""

import collections
import dataclasses
import hashlib
import os
import pathlib
import re
from collections.abc import Collection, Sequence

from rahf.inference.job_sources import (
    PROMPT_FILES,
    USUAL,
    TableColumns,
    check_text,
    read_source,
    read_stdin,
)


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


def read_jobs(
    sources: Sequence[str],
    prompt: str | None = None,
    *,
    columns: TableColumns = USUAL,
    recursive: bool = False,
) -> list[Job]:
    """Lists the jobs in image files, folders and tables.

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
    rows = []
    for source in sources:
        if not source:  # an unset variable of a shell; not the current folder
            raise ValueError("expected an image, a folder or a table, got ''")
        if source == "-":
            rows.extend(read_stdin(prompt, columns))
        else:
            rows.extend(read_source(pathlib.Path(source), prompt, columns, recursive))
    jobs, names, repeats = [], set(), collections.Counter()
    waiting = {row[0] for row in rows}  # ids given in rows and not yet used
    ids = set(waiting)
    rows.reverse()
    while rows:  # whose memory is freed on the way
        given, image, text, *rest = rows.pop()
        base = pathlib.PurePath(image).stem if given is None else given
        if given is not None and given in waiting:
            waiting.remove(given)
            id_ = given
        else:
            id_ = free_id(base, ids, repeats)
        name = safe_name(id_, names)
        ids.add(id_)
        names.add(name.casefold())
        jobs.append(Job(id_, os.path.abspath(image), text, name, base, *rest))
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
        return f"{name or 'image'}-{digest[:12]}"
    return id_  # not its copy: there may be a million
