"""Predictions -> a folder of JSON lines, heatmaps and overlays; resumable.

DIR/predictions.jsonl                  one line per image
DIR/heatmaps/<name>.<target>.png       grey, the image's own size or the model's
DIR/overlays/<name>.<target>.jpg       the heatmap over the image, for viewing
"""

import collections
import contextlib
import dataclasses
import json
import os
import pathlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from rahf import durable
from rahf.inference import image_stamps
from rahf.inference.jobs import Job, free_id, safe_name
from rahf.inference.pictures import ALL, Pictures, picture_names

if TYPE_CHECKING:
    from rahf.inference.predictor import Prediction


#: What is written of heatmaps: nothing, 8-bit PNGs of the model's size, or of the
#: image's own size.
HEATMAPS = ("none", "native", "full")


@dataclasses.dataclass(frozen=True)
class _Done:
    """What a line of predictions.jsonl says about a finished image."""

    id: str
    image: str
    prompt: str
    truncated: bool
    digest: str | None  # SHA-256 of the image file; None in older lines
    stamp: Mapping[str, Any]  # size and time of the image file; empty in older lines
    names: frozenset[str]  # of the heatmap files, in lower case


class PredictionWriter:
    """Writes predictions to a folder, and knows which exist already.

    The folder is locked while the writer is open. Files are written whole or not at
    all, and a line only after the files it names, so an image with a line is complete
    even after a crash. Half a line, left by a crash, is dropped, as are the lines of
    images that could not be read; both are tried again.

    Attributes:
      path: the path of predictions.jsonl.
      written: the number of predictions written by this writer.
      truncated: the number of prompts cut, including those of finished images.
    """

    def __init__(
        self,
        output_dir: str | os.PathLike,
        *,
        checkpoint: str | None = "",
        pictures: Pictures = ALL,
    ):
        """Opens the folder, creating it if needed.

        Args:
          output_dir: the folder.
          checkpoint: the checkpoint's name, recorded in every line. None = call `use`
            before anything is written.
          pictures: the pictures to write.

        Raises:
          ValueError: the folder cannot be written to, is in use by another process,
            or holds something else, such as predictions of another checkpoint or with
            other pictures.
        """
        self.path = pathlib.Path(output_dir) / "predictions.jsonl"
        self.written = self.truncated = 0
        self._pictures = pictures
        self._file, self._checkpoint = None, {}
        durable.check_folder(output_dir)
        with contextlib.ExitStack() as stack, _one_line(self.path.parent):
            stack.enter_context(durable.locked(output_dir, "predicting"))
            for folder, makes in pictures.folders.items():
                if makes:
                    (self.path.parent / folder).mkdir(exist_ok=True)
                for left in (self.path.parent / folder).glob(".*"):
                    left.unlink()  # half a picture, left by a killed process
            self._read()
            if checkpoint is not None:
                self.use(checkpoint)
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception) -> None:
        with self._stack:
            if self._file is not None:
                with self._file, _one_line(self.path.parent):
                    os.fsync(self._file.fileno())

    def _read(self) -> None:
        """Reads the complete lines of finished images."""
        self._data = self.path.read_bytes() if self.path.exists() else b""
        self._kept: list[bytes] = []
        self._done: dict[str, _Done] = {}
        # (checkpoint, digest of its parameters or None) -> the first line of it
        self._checkpoints: dict[tuple[str, str | None], int] = {}
        for number, line in enumerate(self._data.splitlines(keepends=True), 1):
            if not line.endswith(b"\n"):
                continue  # the last line, cut in half
            try:
                row = json.loads(line)
                done = _Done(
                    row["id"],
                    row["image"],
                    row["prompt"],
                    bool(row.get("prompt_truncated")),
                    row.get("image_sha256"),
                    {k: v for k, v in row.items() if k.startswith("image_")},
                    picture_names(row),
                )
                made_by = (row["checkpoint"], row.get("checkpoint_digest"))
                self._checkpoints.setdefault(made_by, number)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise ValueError(
                    f"{self.path}, line {number}: not written by rahf.bin.predict "
                    f"({error!r}); choose another --output"
                ) from error
            if "error" not in row:
                self._pictures.check_line(f"{self.path}, line {number}", row)
                self._kept.append(line)
                self._done[done.id] = done

    def use(self, checkpoint: str, digest: str | None = None) -> None:
        """Sets the checkpoint that makes the predictions, and prepares to write.

        Args:
          checkpoint: its path and step, for people.
          digest: the digest of its parameters (`rahf.checkpoints.identity`). If the
            lines have one of the same kind, it decides: a workdir that was moved
            continues, one that was retrained does not. Otherwise names are compared.

        Raises:
          ValueError: the folder holds predictions of another checkpoint.
        """
        for (other, theirs), number in self._checkpoints.items():
            kinds = [(each or "").partition(":")[0] for each in (digest, theirs)]
            by_digest = bool(kinds[0]) and kinds[0] == kinds[1]
            if theirs == digest if by_digest else other == checkpoint:
                continue
            anew = ""
            if other == checkpoint:
                anew = " with other parameters; was it retrained?"
            raise ValueError(
                f"{self.path}, line {number}: expected predictions of checkpoint "
                f"{checkpoint!r}, got one of {other!r}{anew}; choose another --output"
            )
        self._checkpoint: dict[str, str] = {"checkpoint": checkpoint}
        if digest:
            self._checkpoint["checkpoint_digest"] = digest
        with _one_line(self.path.parent):
            whole = b"".join(self._kept)
            if whole != self._data:
                durable.write_bytes(self.path, whole)
            self._data, self._kept = b"", []
            self._file = self.path.open("ab", buffering=0)

    def missing(self, jobs: Iterable[Job]) -> list[Job]:
        """Returns the jobs that are not done yet.

        A job is done if a line has its id (apart from `-2`, `-3`, ...), its prompt and
        its image: the same path or, if the folder was moved, a file of the same name
        and content. If a line of another job has the id of a job, the job gets the next
        free id, so that finished images keep their ids when images are added.

        Returns:
          The jobs to do, perhaps with new ids and names.

        Raises:
          ValueError: an id was predicted with an image or prompt that none of the jobs
            has, or an image has changed since it was predicted.
        """
        jobs = list(jobs)
        claimed = self._claim(jobs)
        self._check_unchanged([(jobs[n], self._done[i]) for n, i in claimed.items()])
        self.truncated = sum(self._done[id_].truncated for id_ in claimed.values())
        ids, repeats = set(self._done), collections.Counter()
        names = {name for done in self._done.values() for name in done.names}
        missing = []
        owners = set(claimed.values())
        for number, job in enumerate(jobs):
            if number in claimed:
                continue
            done = self._done.get(job.id)
            if done is not None and done.id not in owners:
                raise ValueError(
                    f"{self.path} already has id {job.id!r}, for image {done.image} "
                    f"and prompt {done.prompt!r}, not {job.image} and {job.prompt!r}; "
                    "choose another --output"
                )
            id_ = free_id(job.base or job.id, ids, repeats) if job.id in ids else job.id
            name = job.name
            if id_ != job.id or name.casefold() in names:
                name = safe_name(id_, names)
            ids.add(id_)
            names.add(name.casefold())
            missing.append(dataclasses.replace(job, id=id_, name=name))
        return missing

    def _claim(self, jobs: list[Job]) -> dict[int, str]:
        """Returns the finished jobs: index of the job -> id of its line."""
        claimed: dict[int, str] = {}
        at_place = collections.defaultdict(list)
        for done in self._done.values():
            at_place[done.image, done.prompt].append(done)
        for called in (_is_called, _may_be_called):
            for number, job in enumerate(jobs):
                here = at_place[job.image, job.prompt]
                _claim_one(claimed, number, job, here, called)
        owners = set(claimed.values())
        moved, names = collections.defaultdict(list), set()
        for done in self._done.values():
            if done.digest and done.id not in owners:
                moved[done.digest, done.prompt].append(done)
                names.add((pathlib.PurePath(done.image).name, done.prompt))
        digests = {
            number: image_stamps.sha256(job.image)
            for number, job in enumerate(jobs)
            if number not in claimed
            and (pathlib.PurePath(job.image).name, job.prompt) in names
        }
        for called in (_is_called, _may_be_called):
            for number, digest in digests.items():
                same = moved[digest, jobs[number].prompt]
                _claim_one(claimed, number, jobs[number], same, called)
        return claimed

    def _check_unchanged(self, done: Iterable[tuple[Job, _Done]]) -> None:
        """Raises ValueError where a file is not the one that was predicted."""
        changed = [
            each
            for job, each in done
            if job.image == each.image
            and image_stamps.has_changed(job.image, each.stamp)
        ]
        if changed:
            others = f" (and {len(changed) - 1} others)" if changed[1:] else ""
            raise ValueError(
                f"{changed[0].image}: the file has changed since {self.path} got its "
                f"prediction, id {changed[0].id!r}{others}; remove that line to predict "
                "it again, or choose another --output"
            )

    def write(self, job: Job, image: np.ndarray, prediction: "Prediction") -> dict:
        """Writes one prediction: its files, then its line; see `write_files`."""
        return self.append(self.write_files(job, image, prediction))

    def write_files(
        self, job: Job, image: np.ndarray, prediction: "Prediction"
    ) -> dict:
        """Writes the pictures of one prediction; safe to call from several threads.

        Args:
          job: the job predicted.
          image: uint8[H, W, 3], for the overlays and the size of the heatmaps.
          prediction: the prediction from the predictor.

        Returns:
          The row for `append`.

        Raises:
          ValueError: a score is not finite, a heatmap is outside [0, 1], or the
            pictures cannot be written.
        """
        _check_finite(job, prediction)
        with _one_line(self.path.parent):
            return self._write_files(job, image, prediction)

    def _write_files(self, job, image, prediction) -> dict:
        pictures = self._pictures.write(
            self.path.parent, job.name, image, prediction.heatmaps
        )
        return {
            "id": job.id,
            "image": job.image,
            **image_stamps.stamp(job.image),
            "image_size": [int(n) for n in image.shape[:2]],
            "prompt": job.prompt,
            "prompt_truncated": bool(prediction.prompt_truncated),
            "scores": {k: round(float(v), 6) for k, v in prediction.scores.items()},
            "words": [
                {
                    "text": word.text,
                    "probability": round(float(word.probability), 6),
                    "misaligned": bool(word.misaligned),
                }
                for word in prediction.words
            ],
            **pictures,
            **self._pictures.as_fields(),
            **self._checkpoint,
        }

    def write_error(self, job: Job, error: Exception) -> dict:
        """Records an image that could not be read; the next run tries it again."""
        row = {"id": job.id, "image": job.image, "prompt": job.prompt}
        return self.append({**row, "error": str(error), **self._checkpoint})

    def append(self, row: dict) -> dict:
        """Appends one row to the file, whole and unbuffered; returns it."""
        line = json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"
        # backslashreplace turns what UTF-8 cannot encode (a file name in another
        # encoding) into JSON's own escape.
        data = line.encode("utf-8", "backslashreplace")
        if self._file is None:
            raise ValueError("call PredictionWriter.use to set the checkpoint first")
        start = self._file.seek(0, os.SEEK_END)
        with _one_line(self.path.parent):
            try:
                while data:
                    data = data[self._file.write(data) :]
            except BaseException:
                self._file.truncate(start)  # lest the next line continue this one
                raise
        self.written += "error" not in row
        self.truncated += bool(row.get("prompt_truncated"))
        return row


@contextlib.contextmanager
def _one_line(folder: pathlib.Path):
    """Turns an OSError about a folder into a ValueError about --output."""
    try:
        yield
    except OSError as error:
        raise ValueError(
            f"--output={folder}: cannot be written to ({error.strerror or error}); "
            "once it can be, run the same command to continue"
        ) from error


def _claim_one(claimed: dict[int, str], number: int, job: Job, lines, called) -> None:
    """Assigns a job the first of these lines whose id may belong to it."""
    found = next((done for done in lines if called(job, done.id)), None)
    if found is not None and number not in claimed:
        lines.remove(found)
        claimed[number] = found.id


def _is_called(job: Job, id_: str) -> bool:
    return id_ == job.id


def _may_be_called(job: Job, id_: str) -> bool:
    """Returns whether an id is the job's, apart from an appended number."""
    base = job.base or job.id
    rest = id_.removeprefix(base)
    return id_ == base or (id_ != rest and rest[:1] == "-" and rest[1:].isdecimal())


def _check_finite(job: Job, prediction: "Prediction") -> None:
    numbers = dict(prediction.scores)
    numbers |= {word.text: word.probability for word in prediction.words}
    wrong = {name: value for name, value in numbers.items() if not np.isfinite(value)}
    if wrong:
        raise ValueError(
            f"{job.image}: expected finite predictions, got {wrong}; the checkpoint's "
            "parameters are probably not finite either"
        )
