"""Predictions -> a folder of JSON lines, heatmaps and overlays; resumable.

DIR/predictions.jsonl                  one line per image
DIR/heatmaps/<name>.<target>.png       16-bit grey, the image's own size
DIR/overlays/<name>.<target>.jpg       the same over the image, to look at
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
from PIL import Image

from rahf import durable, images
from rahf.inference import image_stamps
from rahf.inference.jobs import Job, free_id, safe_name

if TYPE_CHECKING:
    from rahf.inference.predictor import Prediction


@dataclasses.dataclass(frozen=True)
class _Done:
    """What a line of predictions.jsonl says of an image that is done."""

    id: str
    image: str
    prompt: str
    truncated: bool
    digest: str | None  # of the image file; None in lines of earlier versions
    stamp: Mapping[str, Any]  # of the image file; empty likewise
    names: frozenset[str]  # of the pictures that were written, in lower case


class PredictionWriter:
    """Writes predictions to a folder, and knows which of them are there already.

    The folder is locked while the writer is open. A line is written after the files it
    names, and those whole or not at all, so an image whose line is there is complete,
    whenever the process ended. A line that a crash cut in half is dropped, and so are
    the lines of images that could not be read: both are tried again.

    Attributes:
      path: of predictions.jsonl.
      written: predictions written by this writer.
      truncated: prompts that were cut, among those written and those found done.
    """

    def __init__(self, output_dir: str | os.PathLike, *, checkpoint: str | None = ""):
        """Opens the folder, making it if need be.

        Args:
          output_dir: the folder.
          checkpoint: what makes the predictions; noted in every line. None = it is
            told by `use` before anything is written.

        Raises:
          ValueError: the folder cannot be written to, is in use by another process,
            or holds something else or predictions of another checkpoint.
        """
        self.path = pathlib.Path(output_dir) / "predictions.jsonl"
        self.written = self.truncated = 0
        self._file, self._checkpoint = None, {}
        durable.check_folder(output_dir)
        with contextlib.ExitStack() as stack, _one_line(self.path.parent):
            stack.enter_context(durable.locked(output_dir, "predicting"))
            for folder in ("heatmaps", "overlays"):
                (self.path.parent / folder).mkdir(exist_ok=True)
                for left in (self.path.parent / folder).glob(".*"):
                    left.unlink()  # half a picture, of a process that was killed
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
        """Reads what is done: the whole lines of finished images."""
        self._data = self.path.read_bytes() if self.path.exists() else b""
        self._kept: list[bytes] = []
        self._done: dict[str, _Done] = {}
        # (checkpoint, digest of its parameters or None) -> the first line of it
        self._checkpoints: dict[tuple[str, str | None], int] = {}
        for number, line in enumerate(self._data.splitlines(keepends=True), 1):
            if not line.endswith(b"\n"):
                continue  # the last one, cut in half
            try:
                row = json.loads(line)
                done = _Done(
                    row["id"],
                    row["image"],
                    row["prompt"],
                    bool(row.get("prompt_truncated")),
                    row.get("image_sha256"),
                    {k: v for k, v in row.items() if k.startswith("image_")},
                    _picture_names(row),
                )
                made_by = (row["checkpoint"], row.get("checkpoint_digest"))
                self._checkpoints.setdefault(made_by, number)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise ValueError(
                    f"{self.path}, line {number}: not a line that predict wrote "
                    f"({error!r}); choose another --output"
                ) from error
            if "error" not in row:
                self._kept.append(line)
                self._done[done.id] = done

    def use(self, checkpoint: str, digest: str | None = None) -> None:
        """Names what makes the predictions, and makes ready to write.

        Args:
          checkpoint: path and step, for people.
          digest: of its parameters (`rahf.checkpoints.identity`). Where the lines have
            one of the same kind it decides: a workdir that was moved goes on, and one
            that was trained anew does not. Else the names are compared.

        Raises:
          ValueError: the folder holds predictions of another checkpoint.
        """
        for (other, theirs), number in self._checkpoints.items():
            kinds = [(each or "").partition(":")[0] for each in (digest, theirs)]
            by_digest = bool(kinds[0]) and kinds[0] == kinds[1]
            if theirs == digest if by_digest else other == checkpoint:
                continue
            not_of = f"not of {checkpoint!r}"
            if other == checkpoint:
                not_of = "which has other parameters now (was it trained anew?)"
            raise ValueError(
                f"{self.path}, line {number}: holds predictions of checkpoint "
                f"{other!r}, {not_of}; choose another --output"
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
        """Those of the jobs that are not done yet.

        A job is done where a line has its id, apart from a `-2`, `-3`, ..., its prompt
        and its image: the same path, or for folders that were moved a file of the same
        name and content. A job whose id went to another one of the list gets the next
        that is free: what is done keeps its id when images are added.

        Returns:
          The jobs to do, perhaps under other ids and names.

        Raises:
          ValueError: an id is done already, but with another image or prompt, which
            none of the jobs asks for, or an image that is done has changed since.
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
                    f"{self.path} holds id {job.id!r} already, for image {done.image} "
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
        """Returns which jobs are done: number of the job -> id of its line."""
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
        """Writes the pictures of one prediction; may run in several threads at once.

        Args:
          job: whose it is.
          image: uint8[H, W, 3], for the overlays and the heatmaps' size.
          prediction: as the predictor returned it.

        Returns:
          The line, for `append`.

        Raises:
          ValueError: a score is not finite, a heatmap is outside [0, 1], or the
            pictures cannot be written.
        """
        _check_finite(job, prediction)
        with _one_line(self.path.parent):
            return self._write_files(job, image, prediction)

    def _write_files(self, job, image, prediction) -> dict:
        root = self.path.parent
        heatmaps, overlays = {}, {}
        for target, heatmap in prediction.heatmaps.items():
            heatmap = images.resize(np.asarray(heatmap), image.shape[:2])
            heatmaps[target] = f"heatmaps/{job.name}.{target}.png"
            overlays[target] = f"overlays/{job.name}.{target}.jpg"
            with durable.writing(root / heatmaps[target]) as temporary:
                images.write_heatmap(temporary, heatmap)
            picture = Image.fromarray(images.overlay(image, heatmap))
            picture.thumbnail((65500, 65500))  # JPEG's limit on a side
            with durable.writing(root / overlays[target]) as temporary:
                picture.save(temporary, "JPEG", quality=90)
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
            "heatmaps": heatmaps,
            "overlays": overlays,
            **self._checkpoint,
        }

    def write_error(self, job: Job, error: Exception) -> dict:
        """Notes an image that could not be read; it is tried again the next time."""
        return self.append(
            {
                "id": job.id,
                "image": job.image,
                "prompt": job.prompt,
                "error": str(error),
                **self._checkpoint,
            }
        )

    def append(self, row: dict) -> dict:
        """Writes one line, to the file at once and whole; returns it."""
        line = json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"
        # backslashreplace turns what UTF-8 cannot say (a file name in another
        # encoding) into JSON's own escape for it.
        data = line.encode("utf-8", "backslashreplace")
        if self._file is None:
            raise ValueError("name the checkpoint first (PredictionWriter.use)")
        start = self._file.seek(0, os.SEEK_END)
        with _one_line(self.path.parent):
            try:
                while data:
                    data = data[self._file.write(data) :]
            except BaseException:
                self._file.truncate(start)  # lest the next line go on in this one
                raise
        if "error" not in row:
            self.written += 1
            self.truncated += bool(row.get("prompt_truncated"))
        return row


@contextlib.contextmanager
def _one_line(folder: pathlib.Path):
    """Tells what the system says of a folder as the user's --output."""
    try:
        yield
    except OSError as error:
        raise ValueError(
            f"--output={folder}: cannot be written to ({error.strerror or error}); "
            "once it can be, the same command goes on"
        ) from error


def _claim_one(claimed: dict[int, str], number: int, job: Job, lines, called) -> None:
    """Gives a job the first of these lines whose id may be its own."""
    found = next((done for done in lines if called(job, done.id)), None)
    if found is not None and number not in claimed:
        lines.remove(found)
        claimed[number] = found.id


def _is_called(job: Job, id_: str) -> bool:
    return id_ == job.id


def _may_be_called(job: Job, id_: str) -> bool:
    """Whether an id is the job's, apart from the number of a repetition."""
    base = job.base or job.id
    rest = id_.removeprefix(base)
    return id_ == base or (id_ != rest and rest[:1] == "-" and rest[1:].isdecimal())


def _picture_names(row: dict) -> frozenset[str]:
    names = set()
    for target, path in row.get("heatmaps", {}).items():
        name = path.removeprefix("heatmaps/").removesuffix(f".{target}.png")
        names.add(name.casefold())
    return frozenset(names)


def _check_finite(job: Job, prediction: "Prediction") -> None:
    numbers = dict(prediction.scores)
    numbers |= {word.text: word.probability for word in prediction.words}
    wrong = {name: value for name, value in numbers.items() if not np.isfinite(value)}
    if wrong:
        raise ValueError(
            f"{job.image}: expected finite predictions, got {wrong}; the checkpoint's "
            "parameters are probably not finite either"
        )
