"""Many images through a predictor: read ahead, predict in batches, write."""

import dataclasses
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Self

import numpy as np
from tqdm import tqdm

from rahf import images
from rahf.inference.jobs import Job
from rahf.inference.writer import PredictionWriter

if TYPE_CHECKING:
    from rahf.inference.predictor import Predictor


@dataclasses.dataclass
class Counts:
    """What a run did.

    Attributes:
      predicted: images whose predictions were written.
      failed: images that could not be read.
      done_before: images that an earlier run had written.
      rate: images per second, without the first batch if there were others.
      compiled: whether the rate includes the first batch, which compiles.
    """

    predicted: int = 0
    failed: int = 0
    done_before: int = 0
    rate: float = 0.0
    compiled: bool = False

    def summary(self) -> str:
        """The counts in words, those that are zero left out."""
        parts = [f"{self.predicted} predicted"]
        if self.rate:
            note = ", compilation included" if self.compiled else ""
            parts[0] += f" ({self.rate:.1f} images/s{note})"
        if self.done_before:
            parts.append(f"{self.done_before} done before")
        if self.failed:
            parts.append(f"{self.failed} could not be read")
        return ", ".join(parts)


def run(
    predictor: "Predictor",
    jobs: Sequence[Job],
    writer: PredictionWriter,
    *,
    batch_size: int = 16,
    on_error: str = "fail",
) -> Counts:
    """Predicts and writes what is not written yet, with a progress bar.

    Args:
      predictor: what `rahf.load` returned.
      jobs: see `inputs.read_jobs`.
      writer: where the predictions go.
      batch_size: images at a time.
      on_error: "fail" to raise at the first image that cannot be read, after the
        batches before it are written; "skip" to note it and go on.

    Returns:
      How many images were predicted, and how fast.

    Raises:
      ImageError: an image cannot be read, and `on_error` is "fail".
      ValueError: an option is wrong, or an id is taken (`PredictionWriter.missing`).
    """
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size} must be at least 1")
    if on_error not in ("fail", "skip"):
        raise ValueError(f"on_error={on_error!r}; expected 'fail' or 'skip'")
    missing = writer.missing(jobs)
    counts = Counts(done_before=len(jobs) - len(missing))
    # The first batch compiles, so the clock starts at its end where others follow.
    clock = _Clock()
    with (
        _Background(writer) as background,
        tqdm(total=len(missing), unit="image", desc="predict") as bar,
    ):
        for batch in read_batches(missing, batch_size):
            read = []
            for job, image in batch:
                if not isinstance(image, images.ImageError):
                    read.append((job, image))
                elif on_error == "fail":
                    raise image
                else:
                    writer.write_error(job, image)
                    counts.failed += 1
            if read:
                predictions = predictor.predict(
                    [image for _, image in read],
                    [job.prompt for job, _ in read],
                    batch_size=batch_size,
                )
                background.write(read, predictions)
                counts.predicted += len(read)
                clock.tick(len(read))
            bar.update(len(batch))
    counts.rate, counts.compiled = clock.rate()
    return counts


class _Background:
    """Writes the pictures of one batch while the next one is predicted."""

    def __init__(self, writer: PredictionWriter, workers: int = 2):
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
        pending, self._pending = self._pending, []
        for future in pending:
            self._writer.append(future.result())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception) -> None:
        with self._pool:
            self._finish()


class _Clock:
    """Images per second; the first batch does not count if there are others."""

    def __init__(self):
        self._ticks = [(time.perf_counter(), 0)]

    def tick(self, number: int) -> None:
        self._ticks.append((time.perf_counter(), number))

    def rate(self) -> tuple[float, bool]:
        """Images per second until now, and whether the first batch is in it."""
        if len(self._ticks) < 2:
            return 0.0, False
        first = 1 if len(self._ticks) > 2 else 0
        number = sum(n for _, n in self._ticks[first + 1 :])
        # Not until the last tick: its pictures had to be written too.
        return number / (time.perf_counter() - self._ticks[first][0]), not first


def read_batches(
    jobs: Sequence[Job], batch_size: int, *, workers: int = 2
) -> Iterator[list[tuple[Job, np.ndarray | images.ImageError]]]:
    """Reads the images in the background, one batch ahead of the one in use.

    Args:
      jobs: what to read.
      batch_size: jobs per batch; the last one may be smaller.
      workers: threads that decode.

    Yields:
      Batches of (job, uint8[H, W, 3]), or (job, error) where it could not be read.
    """
    with ThreadPoolExecutor(workers) as pool:
        chunks = [jobs[i : i + batch_size] for i in range(0, len(jobs), batch_size)]
        ahead = []
        for chunk in chunks:
            ahead.append([(job, pool.submit(_read, job)) for job in chunk])
            if len(ahead) == 2:
                yield [(job, future.result()) for job, future in ahead.pop(0)]
        for batch in ahead:
            yield [(job, future.result()) for job, future in batch]


def _read(job: Job) -> np.ndarray | images.ImageError:
    try:
        return images.read_image(job.image)
    except images.ImageError as error:
        return error
