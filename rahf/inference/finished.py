"""What the lines of predictions.jsonl say is done, and what is left of a list of jobs.

The lines are kept on disk, so that a million of them take a few megabytes of memory.
"""

import json
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from rahf.inference import image_stamps
from rahf.inference.jobs import Job, JobList, free_id, safe_name
from rahf.inference.pictures import picture_names
from rahf.inference.scratch import Scratch, Tally, key, pack, unpack

_LINES = """lines (
    number INTEGER PRIMARY KEY,
    named BLOB UNIQUE,  -- id
    placed BLOB,        -- image and prompt
    called BLOB,        -- name of the image's file and prompt, NULL without a digest
    moved BLOB,         -- digest of the image and prompt, likewise
    id BLOB, image BLOB, prompt BLOB, truncated INTEGER, stamp TEXT
)"""

_May = Callable[[Job, str], bool]


class Finished:
    """The finished images of a folder.

    Attributes:
      truncated: of the jobs that `missing` found done, those whose prompt was cut.
    """

    def __init__(self, path: pathlib.Path):
        """Starts with no line.

        Args:
          path: the file of the lines, for messages.
        """
        self.truncated = 0
        self._path, self._length = path, 0
        self._scratch = Scratch(_LINES)
        self._names = Tally(self._scratch, "names")  # of picture files, in lower case

    def add(self, row: Mapping[str, Any]) -> None:
        """Adds the line of a finished image.

        Raises:
          KeyError, TypeError, AttributeError, ValueError: it is no such line.
        """
        id_, image, prompt = row["id"], row["image"], row["prompt"]
        digest = row.get("image_sha256")
        called = moved = None
        if digest:
            called = key(pathlib.PurePath(image).name, prompt)
            moved = key(digest, prompt)
        stamp = {k: v for k, v in row.items() if k.startswith("image_")}
        self._scratch.run(
            "INSERT OR REPLACE INTO lines VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            *(self._length, key(id_), key(image, prompt), called, moved),
            *(pack(id_), pack(image), pack(prompt)),
            *(bool(row.get("prompt_truncated")), json.dumps(stamp)),
        )
        self._length += 1
        for name in picture_names(row):
            self._names[name] = 1

    def missing(self, jobs: Sequence[Job]) -> Sequence[Job]:
        """Returns the jobs that are not done; see `PredictionWriter.missing`."""
        self.truncated = 0
        if not self._length:
            return jobs
        done, owned = self._claim(jobs)
        return JobList(self._rename(jobs, done, owned))

    def _rename(
        self, jobs: Sequence[Job], done: bytearray, owned: bytearray
    ) -> Iterator[Job]:
        scratch = Scratch()
        ids = Tally(scratch, "ids", _Ids(self._scratch))
        names = Tally(scratch, "names", self._names)
        repeats = Tally(scratch, "repeats")
        for number, job in enumerate(jobs):
            if done[number]:
                continue
            line = self._scratch.first(
                "SELECT number, image, prompt FROM lines WHERE named = ?", key(job.id)
            )
            if line is not None and not owned[line[0]]:
                image, prompt = map(unpack, line[1:])
                raise ValueError(
                    f"{self._path} already has id {job.id!r}, for image {image} "
                    f"and prompt {prompt!r}, not {job.image} and {job.prompt!r}; "
                    "choose another --output"
                )
            id_ = free_id(job.base or job.id, ids, repeats) if job.id in ids else job.id
            name = job.name
            if id_ != job.id or name.casefold() in names:
                name = safe_name(id_, names)
            ids[id_] = 1
            names[name.casefold()] = 1
            yield Job(id_, job.image, job.prompt, name, job.base, job.where)

    def _claim(self, jobs: Sequence[Job]) -> tuple[bytearray, bytearray]:
        """Finds the line of each finished job.

        Returns:
          For each job and for each line, whether it has one of the others.

        Raises:
          ValueError: an image has changed since it was predicted.
        """
        claims = _Claims(self._scratch, bytearray(len(jobs)), bytearray(self._length))
        for number, job in enumerate(jobs):
            claims.claim(number, job, "named = ? AND placed", key(job.id), _place(job))
        if not claims.all_owned():
            for column in ("placed", "called", "moved"):
                self._scratch.run(
                    f"CREATE INDEX IF NOT EXISTS by_{column} ON lines ({column}, number)"
                )
            for number, job in enumerate(jobs):
                claims.claim(number, job, "placed", _place(job))
            self._claim_moved(jobs, claims)
        self.truncated = claims.truncated
        if changed := claims.changed:
            image, id_ = map(unpack, claims.first_changed)
            others = f" (and {changed - 1} others)" if changed > 1 else ""
            raise ValueError(
                f"{image}: the file has changed since {self._path} got its "
                f"prediction, id {id_!r}{others}; remove that line to predict "
                "it again, or choose another --output"
            )
        return claims.done, claims.owned

    def _claim_moved(self, jobs: Sequence[Job], claims: "_Claims") -> None:
        digests = Scratch("digests (number INTEGER PRIMARY KEY, moved BLOB)")
        for number, job in enumerate(jobs):
            name = pathlib.PurePath(job.image).name
            if claims.has_free(number, "called", key(name, job.prompt)):
                moved = key(image_stamps.sha256(job.image) or "", job.prompt)
                digests.run("INSERT INTO digests VALUES (?, ?)", number, moved)
                claims.claim(number, job, "named = ? AND moved", key(job.id), moved)
        for number, job in enumerate(jobs):
            found = digests.first("SELECT moved FROM digests WHERE number = ?", number)
            if found:
                claims.claim(number, job, "moved", *found)


class _Claims:
    """Which job has which line, each at most one."""

    def __init__(self, lines: Scratch, done: bytearray, owned: bytearray):
        self._lines, self.done, self.owned = lines, done, owned
        self.truncated = self.changed = 0
        self.first_changed = b"", b""

    def all_owned(self) -> bool:
        number = self._lines.first("SELECT COUNT(*) FROM lines")
        return number is not None and self.owned.count(1) == number[0]

    def claim(self, number: int, job: Job, where: str, *values: bytes) -> None:
        """Gives a job the first free line of these that may have its id."""
        if self.done[number]:
            return
        for line, id_, image, truncated, stamp in self._lines.rows(
            "SELECT number, id, image, truncated, stamp FROM lines "
            f"WHERE {where} = ? ORDER BY number",
            *values,
        ):
            if self.owned[line] or not _may_be_called(job, unpack(id_)):
                continue
            self.done[number] = self.owned[line] = 1
            self.truncated += truncated
            if unpack(image) == job.image and image_stamps.has_changed(
                job.image, json.loads(stamp)
            ):
                self.first_changed = (
                    (image, id_) if not self.changed else (self.first_changed)
                )
                self.changed += 1
            return

    def has_free(self, number: int, where: str, value: bytes) -> bool:
        """Whether a job without a line may have one of these, by its id or not."""
        lines = self._lines.rows(f"SELECT number FROM lines WHERE {where} = ?", value)
        return not self.done[number] and not all(self.owned[line] for (line,) in lines)


class _Ids:
    """The ids of the lines, as a container."""

    def __init__(self, lines: Scratch):
        self._lines = lines

    def __contains__(self, id_: object) -> bool:
        found = self._lines.first("SELECT 1 FROM lines WHERE named = ?", key(str(id_)))
        return found is not None


def _place(job: Job) -> bytes:
    return key(job.image, job.prompt)


def _may_be_called(job: Job, id_: str) -> bool:
    """Returns whether an id is the job's, apart from an appended number."""
    base = job.base or job.id
    rest = id_.removeprefix(base)
    return id_ in (job.id, base) or (
        id_ != rest and rest[:1] == "-" and rest[1:].isdecimal()
    )
