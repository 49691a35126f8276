"""Predictions -> a folder of JSON lines, heatmaps and pictures of them; resumable.

DIR/predictions.jsonl                  one line per image
DIR/heatmaps/<name>.<target>.png       grey, the image's own size or the model's
DIR/overlays/<name>.<target>.jpg       the heatmap over the image, for viewing
DIR/sheets/<name>.jpg                  all of that in one picture, if it is asked for
"""

import array
import contextlib
import json
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from rahf import durable
from rahf.inference import image_stamps, intervals
from rahf.inference.finished import Finished
from rahf.inference.jobs import Job
from rahf.inference.pictures import ALL, Pictures

if TYPE_CHECKING:
    from rahf.inference.predictor import Prediction


#: An image that is farther from the training images than this percentage of those is
#: counted as far.
FAR = 99.0


#: The rows that a writer keeps to show them.
FIRST = 5


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
      measured: the number of lines in the folder that know how far their image is from
        the training images.
      far: those of them that are farther than `FAR` percent of the training images.
      first: the first rows written by this writer, at most `FIRST`.
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
        self.written = self.truncated = self.measured = self.far = 0
        self.first: list[dict] = []
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
        self._finished = Finished(self.path)
        self._dropped = array.array("q")  # lines that are not kept, counted from 1
        # (checkpoint, digest of its parameters or None) -> the first line of it
        self._checkpoints: dict[tuple[str, str | None], int] = {}
        for number, line in enumerate(self._lines(), 1):
            if not line.endswith(b"\n"):
                self._dropped.append(number)  # the last line, cut in half
                continue
            where = f"{self.path}, line {number}"
            try:
                row = json.loads(line)
                made_by = (row["checkpoint"], row.get("checkpoint_digest"))
                self._checkpoints.setdefault(made_by, number)
                if "error" in row:
                    self._dropped.append(number)
                    continue
                self._finished.add(row)
                self._count_distance(row)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise ValueError(
                    f"{where}: not written by rahf.bin.predict ({error!r}); choose "
                    "another --output"
                ) from error
            self._pictures.check_line(where, row)

    def _count_distance(self, row: Mapping[str, Any]) -> None:
        if (distance := row.get("distance")) is not None:
            self.measured += 1
            self.far += distance > FAR

    def _lines(self) -> Iterator[bytes]:
        if self.path.exists():
            with self.path.open("rb") as file:
                yield from file

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
            if self._dropped:
                self._drop()
            self._file = self.path.open("ab", buffering=0)

    def _drop(self) -> None:
        """Rewrites the file without the lines to drop."""
        dropped = iter([*self._dropped, 0])
        following = next(dropped)
        with (
            durable.writing(self.path) as temporary,
            temporary.open("wb") as file,
        ):
            for number, line in enumerate(self._lines(), 1):
                if number == following:
                    following = next(dropped)
                else:
                    file.write(line)
        self._dropped = array.array("q")

    def missing(self, jobs: Sequence[Job]) -> Sequence[Job]:
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
        found = self._finished.missing(jobs)
        self.truncated = self._finished.truncated
        return found

    def write(self, job: Job, image: np.ndarray, prediction: "Prediction") -> dict:
        """Writes one prediction: its files, then its line; see `write_files`."""
        return self.append(self.write_files(job, image, prediction))

    def write_files(
        self, job: Job, image: np.ndarray, prediction: "Prediction"
    ) -> dict:
        """Writes the pictures of one prediction; safe to call from several threads.

        Args:
          job: the job predicted.
          image: uint8[H, W, 3], for the overlays and sheets, and the size of the heatmaps.
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
        pictures = self._pictures.write(self.path.parent, job, image, prediction)
        distance = {}
        if prediction.distance is not None:
            distance["distance"] = round(float(prediction.distance), 1)
        return {
            "id": job.id,
            "image": job.image,
            **image_stamps.stamp(job.image),
            "image_size": [int(n) for n in image.shape[:2]],
            "prompt": job.prompt,
            "prompt_truncated": bool(prediction.prompt_truncated),
            "scores": {k: round(float(v), 6) for k, v in prediction.scores.items()},
            **intervals.as_fields(prediction),
            "words": [
                {
                    "text": word.text,
                    "probability": round(float(word.probability), 6),
                    "misaligned": bool(word.misaligned),
                }
                for word in prediction.words
            ],
            **distance,
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
        if "error" not in row and len(self.first) < FIRST:
            self.first.append(row)
        self.truncated += bool(row.get("prompt_truncated"))
        self._count_distance(row)
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


def _check_finite(job: Job, prediction: "Prediction") -> None:
    numbers = dict(prediction.scores)
    numbers |= {word.text: word.probability for word in prediction.words}
    wrong = {name: value for name, value in numbers.items() if not np.isfinite(value)}
    if wrong:
        raise ValueError(
            f"{job.image}: expected finite predictions, got {wrong}; the checkpoint's "
            "parameters are probably not finite either"
        )
