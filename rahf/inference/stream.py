"""Predicts many images: reads ahead, predicts in batches, writes."""

import dataclasses
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Self, TypeVar

import numpy as np
from tqdm import tqdm

from rahf import images, storage
from rahf.inference import intervals
from rahf.inference.job_sources import USUAL, TableColumns
from rahf.inference.jobs import Job, JobList, read_jobs, unread_prompts
from rahf.inference.pictures import ALL, Pictures
from rahf.inference.writer import FAR, PredictionWriter

if TYPE_CHECKING:
    from rahf.inference.predictor import Predictor

#: The limit on the decoded images of a batch. At most three batches are in memory: one
#: read ahead, one in use, one being written.
BATCH_BYTES = 256 * 2**20


@dataclasses.dataclass
class Counts:
    """The counts of a run.

    Attributes:
      predicted: images whose predictions were written.
      failed: images that could not be read.
      done_before: images whose predictions an earlier run wrote.
      truncated: prompts that were cut, in this run and earlier ones.
      measured, far: see `PredictionWriter`.
      rate: images per second, without the first batch if there were others.
      compiled: whether the rate includes the first batch, which compiles.
    """

    predicted: int = 0
    failed: int = 0
    done_before: int = 0
    truncated: int = 0
    measured: int = 0
    far: int = 0
    rate: float = 0.0
    compiled: bool = False

    def summary(self) -> str:
        """Returns the counts in words, without those that are zero."""
        parts = [f"{self.predicted} predicted"]
        if self.rate:
            note = ", including compilation" if self.compiled else ""
            parts[0] += f" ({self.rate:.1f} images/s{note})"
        if self.done_before:
            parts.append(f"{self.done_before} done before")
        if self.failed:
            parts.append(f"{self.failed} could not be read")
        return ", ".join(parts)

    @property
    def exit_code(self) -> int:
        """1 if images failed and none has a prediction, else 0.

        It depends on what the folder holds, so running again gives the same code.
        """
        return int(bool(self.failed) and not self.predicted + self.done_before)


class Interrupted(KeyboardInterrupt):
    """Raised on Ctrl-C; the message says how much was written."""


@dataclasses.dataclass(frozen=True)
class Options:
    """How images are predicted, and what is written of them.

    Attributes:
      batch_size: images per batch.
      on_error: "fail" to raise at the first image that cannot be read, after the
        batches before it are written; "skip" to record the error and continue.
      pictures: the pictures to write.
      writers: the threads that encode and write pictures, and as many that read images;
        None = one for each processor, at least 2.

    Raises:
      ValueError: a value is wrong.
    """

    batch_size: int = 16
    on_error: str = "fail"
    pictures: Pictures = ALL
    writers: int | None = None

    def __post_init__(self):
        if self.batch_size < 1:
            raise ValueError(f"batch_size={self.batch_size} must be at least 1")
        if self.on_error not in ("fail", "skip"):
            raise ValueError(f"on_error={self.on_error!r}; expected 'fail' or 'skip'")


@dataclasses.dataclass(frozen=True)
class Sources:
    """What to predict.

    Attributes:
      names, prompt, columns, recursive: see `rahf.inference.jobs.read_jobs`.
      limit: the number of images at most, the first of the list; None = all.
    """

    names: Sequence[str]
    prompt: str | None = None
    columns: TableColumns = USUAL
    recursive: bool = False
    limit: int | None = None

    def read(self) -> JobList:
        """Returns the jobs; raises ValueError as `read_jobs` does."""
        jobs = read_jobs(
            self.names, self.prompt, columns=self.columns, recursive=self.recursive
        )
        return jobs.head(self.limit)


def predict_folder(
    sources: Sources,
    output: str,
    checkpoint: str,
    *,
    step: int | str | None = None,
    options: Options = Options(),
    load: Callable[[str, int | str | None], "Predictor"] | None = None,
) -> tuple[Counts, str]:
    """Predicts images into a folder, as rahf.bin.predict does.

    Errors in the list of images and in the folder are found before the checkpoint is
    loaded.

    Args:
      sources: what to predict.
      output: the folder to write to.
      checkpoint, step: see `rahf.load`.
      options: how to predict them, and what to write.
      load: what loads the checkpoint, for who predicts several folders; None =
        `rahf.load`.

    Returns:
      The counts, and a summary for people to read.

    Raises:
      ValueError: an input is invalid.
      Interrupted: the user pressed Ctrl-C.
    """
    jobs = sources.read()
    with PredictionWriter(output, checkpoint=None, pictures=options.pictures) as out:
        try:
            missing = out.missing(jobs)
            check_files(missing, options.on_error)
            import rahf
            from rahf.checkpoints import identity, provenance, restore

            workdir, step = restore.split_step(checkpoint, step)
            predictor = (load or rahf.load)(workdir, step)
            out.use(
                f"{storage.absolute(storage.place(workdir))}, step {predictor.step}",
                identity.digest_of(workdir, predictor.step, predictor.params),
            )
            counts = run(predictor, missing, out, options)
            counts.done_before = len(jobs) - len(missing)
        except KeyboardInterrupt:
            raise Interrupted(
                f"interrupted; {out.written} written; run the same command to continue"
            ) from None
    lines = [f"{out.path}: {counts.summary()}"]
    lines += [f"  {row['id']}: {intervals.describe(row)}" for row in out.first]
    if counts.predicted > len(out.first):
        lines.append("  ...")
    if number := counts.truncated:
        lines.append(
            f"{number:,} prompt{' is' if number == 1 else 's are'} longer than the "
            "model reads (config.input.text_length="
            f"{predictor.config.input.text_length}); words cut off are not judged"
        )
    if counts.measured:
        lines.append(_describe_distances(counts.far, counts.measured))
    if predictor.config.input.get("prompts") == "none":
        lines.append("note: this checkpoint reads no prompt; it judges images alone")
    if text := provenance.warning(predictor.config):
        lines.append(f"note: {text}")
    for folder, name in unread_prompts(sources.names, sources.prompt):
        lines.append(f"{folder}: --prompt is used for all images; {name} is ignored")
    return counts, "\n".join(lines)


def _describe_distances(far: int, measured: int) -> str:
    if not far:
        return (
            f"none of {measured:,} images is farther from the training images than "
            f"{FAR:g} % of those, by the checkpoint's own features"
        )
    verb = "is" if far == 1 else "are"
    return (
        f"{far:,} of {measured:,} images {verb} farther from the training images than "
        f"{FAR:g} % of those, by the checkpoint's own features: there "
        "it has learned little, whatever it predicts"
    )


def check_files(jobs: Sequence[Job], on_error: str) -> None:
    """Finds missing images at once, rather than hours later."""
    if on_error == "skip":
        return
    gone, first = 0, None
    for job in jobs:
        if not os.path.isfile(job.image):
            gone, first = gone + 1, first or job
    if first is None:
        return
    place = f"{first.where}, id {first.id!r}: " if first.where else ""
    others = f" ({gone} of {len(jobs)} images are missing)" if gone > 1 else ""
    raise ValueError(
        f"{place}{first.image}: no such file{others}; use --on_error=skip to record "
        "this and continue"
    )


def run(
    predictor: "Predictor",
    jobs: Sequence[Job],
    writer: PredictionWriter,
    options: Options = Options(),
) -> Counts:
    """Predicts and writes images, with a progress bar.

    Args:
      predictor: the predictor from `rahf.load`.
      jobs: what to predict; none of it is done (`PredictionWriter.missing`).
      writer: the writer of the predictions.
      options: how to predict.

    Returns:
      How many images were predicted, and how fast.

    Raises:
      ImageError: an image cannot be read, and `options.on_error` is "fail".
    """
    writers = options.writers or max(2, len(os.sched_getaffinity(0)))
    counts = Counts()
    # The first batch compiles, so if others follow the clock starts at its end.
    clock = _Clock()
    with (
        _Background(writer, writers) as background,
        tqdm(total=len(jobs), unit="image", desc="predict") as bar,
    ):
        for batch in read_batches(jobs, options.batch_size, workers=writers):
            read = []
            for job, image in batch:
                if not isinstance(image, images.ImageError):
                    read.append((job, image))
                elif options.on_error == "fail":
                    raise image
                else:
                    writer.write_error(job, image)
                    counts.failed += 1
            if read:
                predictions = predictor.predict(
                    [image for _, image in read],
                    [job.prompt for job, _ in read],
                    batch_size=options.batch_size,
                )
                background.write(read, predictions)
                counts.predicted += len(read)
                clock.tick(len(read))
            bar.update(len(batch))
    counts.truncated = writer.truncated
    counts.measured, counts.far = writer.measured, writer.far
    counts.rate, counts.compiled = clock.rate()
    return counts


class _Background:
    """Writes the pictures of one batch while the next one is predicted."""

    def __init__(self, writer: PredictionWriter, workers: int):
        self._writer = writer
        self._pool = ThreadPoolExecutor(workers)
        self._pending = []

    def write(self, read: Sequence, predictions: Sequence) -> None:
        self._finish()
        self._pending = [
            self._pool.submit(self._writer.write_files, job, image, prediction)
            for (job, image), prediction in zip(read, predictions, strict=True)
        ]

    def _finish(self) -> None:
        while self._pending:
            row = self._pending[0].result()  # still pending if Ctrl-C ends the wait
            self._pending.pop(0)
            self._writer.append(row)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception) -> None:
        with self._pool:
            self._finish()


class _Clock:
    """Measures images per second, without the first batch if there are others."""

    def __init__(self):
        self._start = self._first = time.perf_counter()
        self._batches = self._images = self._later = 0

    def tick(self, number: int) -> None:
        """Counts the images of a batch that is done."""
        if not self._batches:
            self._first = time.perf_counter()
        else:
            self._later += number
        self._batches += 1
        self._images += number

    def rate(self) -> tuple[float, bool]:
        """Returns images per second so far, and whether the first batch counts."""
        if not self._batches:
            return 0.0, False
        # Until now, not the last tick: its pictures had to be written too.
        now = time.perf_counter()
        if self._later:
            return self._later / (now - self._first), False
        return self._images / (now - self._start), True


def read_batches(
    jobs: Sequence[Job], batch_size: int, *, workers: int = 2
) -> Iterator[list[tuple[Job, np.ndarray | images.ImageError]]]:
    """Reads the images in the background, one batch ahead of the one in use.

    Args:
      jobs: the jobs whose images to read.
      batch_size: jobs per batch. Batches are smaller at the end, and where their images
        would exceed `BATCH_BYTES`; a larger image is a batch of its own.
      workers: the number of decoding threads.

    Yields:
      Batches of (job, uint8[H, W, 3]), or (job, error) if the image cannot be read.
    """
    with ThreadPoolExecutor(workers) as pool:
        ahead = []
        for chunk in chunk_by_bytes(
            jobs, batch_size, lambda job: images.measure(job.image)
        ):
            ahead.append([(job, pool.submit(_read, job)) for job in chunk])
            if len(ahead) == 2:
                yield [(job, future.result()) for job, future in ahead.pop(0)]
        for batch in ahead:
            yield [(job, future.result()) for job, future in batch]


_T = TypeVar("_T")


def chunk_by_bytes(
    items: Iterable[_T], most: int, measure: Callable[[_T], int]
) -> Iterator[list[_T]]:
    """Divides items into lists whose images can be held decoded at the same time.

    Args:
      items: what to divide.
      most: items of a list.
      measure: bytes that an item's images will take.

    Yields:
      Lists of at most `most` items and `BATCH_BYTES`; an item over that is alone.
    """
    chunk, held = [], 0
    for item in items:
        size = measure(item)
        if chunk and (len(chunk) == most or held + size > BATCH_BYTES):
            yield chunk
            chunk, held = [], 0
        chunk.append(item)
        held += size
    if chunk:
        yield chunk


def _read(job: Job) -> np.ndarray | images.ImageError:
    try:
        return images.read_image(job.image)
    except images.ImageError as error:
        return error
