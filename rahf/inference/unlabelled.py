"""Pictures without labels, in parts: of a dataset, of files and tables, or of shards."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from rahf.datasets.row_digest import digest_rows
from rahf.inference.jobs import Job, read_jobs
from rahf.inference.shards import list_shards, read_items

#: UnlabelledPictures in a part of those that can be counted.
PART = 512
_SHARDS = (".tar", ".parquet")


@dataclasses.dataclass(frozen=True)
class UnlabelledPicture:
    """A picture to ask a teacher about.

    Attributes:
      id: its name.
      image: uint8[H, W, 3], encoded bytes, or a path or URL.
      prompt: the text it is judged against.
      fault: why it cannot be read, "" = nothing known.
    """

    id: str
    image: np.ndarray | bytes | str
    prompt: str
    fault: str = ""


@dataclasses.dataclass(frozen=True)
class UnlabelledPictures:
    """Pictures in an order that does not change.

    Attributes:
      identity: a JSON-able description; other pictures have another one.
      parts: functions that each yield some of the pictures.
      total: their number, if it is known before they are read.
    """

    identity: Mapping[str, Any]
    parts: Sequence[Callable[[], Iterator[UnlabelledPicture]]]
    total: int | None


def of_records(
    records: Sequence[Mapping[str, Any]], identity: Mapping[str, Any]
) -> UnlabelledPictures:
    """Returns the pictures of a dataset's records; no label is looked at."""
    parts = [
        functools.partial(_of_records, records, start)
        for start in range(0, len(records), PART)
    ]
    return UnlabelledPictures(identity, parts, len(records))


def of_sources(sources: Sequence[str], prompt: str | None = None) -> UnlabelledPictures:
    """Returns the pictures of shards, or of files, folders and tables.

    Args:
      sources: tar or Parquet shards as `rahf.bin.score` takes them, or else what
        `rahf.bin.predict` takes.
      prompt: the prompt of pictures that have none; not for shards.

    Raises:
      ValueError: a source is missing, empty or malformed, or shards and others are
        mixed.
    """
    shards = [source for source in sources if source.endswith(_SHARDS)]
    if shards and len(shards) < len(sources):
        other = next(source for source in sources if source not in shards)
        raise ValueError(
            f"--images: expected shards ({' or '.join(_SHARDS)}) or other sources, not "
            f"both, got {shards[0]} and {other}"
        )
    if shards:
        if prompt is not None:
            raise ValueError("--prompt is for pictures without one, not for shards")
        urls = list_shards(shards)
        names = [url.rsplit("/", 1)[-1] for url in urls]  # a moved folder is the same
        identity = {"kind": "shards", "number": len(urls), "digest": digest_rows(names)}
        return UnlabelledPictures(
            identity, [functools.partial(_of_shard, u) for u in urls], None
        )
    jobs = read_jobs(sources, prompt)
    if not jobs:
        raise ValueError(f"--images={','.join(sources)}: no picture was found")
    rows = ((job.id, pathlib.PurePath(job.image).name, job.prompt) for job in jobs)
    identity = {"kind": "files", "number": len(jobs), "digest": digest_rows(rows)}
    parts = [
        functools.partial(_of_jobs, jobs[start : start + PART])
        for start in range(0, len(jobs), PART)
    ]
    return UnlabelledPictures(identity, parts, len(jobs))


def _of_records(
    records: Sequence[Mapping[str, Any]], start: int
) -> Iterator[UnlabelledPicture]:
    for index in range(start, min(start + PART, len(records))):
        record = records[index]
        yield UnlabelledPicture(
            str(record["uid"]), record["image"], str(record["prompt"])
        )


def _of_jobs(jobs: Sequence[Job]) -> Iterator[UnlabelledPicture]:
    for job in jobs:
        yield UnlabelledPicture(job.id, job.image, job.prompt)


def _of_shard(url: str) -> Iterator[UnlabelledPicture]:
    name = url.rsplit("/", 1)[-1].rpartition(".")[0]
    for item in read_items(url):
        own = item.id if item.id.startswith(f"{name}/") else f"{name}/{item.id}"
        yield UnlabelledPicture(own, item.image, item.prompt, item.fault)
