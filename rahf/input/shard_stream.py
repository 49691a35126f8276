"""Streams shards, shuffled and divided among readers, and resumes exactly."""

import collections
import dataclasses
import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import grain
import numpy as np

from rahf import images
from rahf.datasets.files.tar_shards import Sample, Shards, read_shard
from rahf.input.bad_records import ExampleResult

# The least number of shards, or parts of them, per reader if some readers have one more
# than others: samples of the others then come up at most an eighth more often.
_EVEN = 8
#: Bytes of encoded images in the window of one reader; images beyond that are released
#: and read again when needed.
WINDOW_BYTES = 2**30


def shuffled(
    shards: Shards,
    seed: int,
    *,
    shard_index: int = 0,
    shard_count: int = 1,
    workers: int = 0,
) -> grain.IterDataset[Sample]:
    """Returns the endless samples of one process.

    Each reader (a process, or one of its workers) has its own shards, which no other
    reads, in another order every epoch. If there are too few to distribute evenly,
    shards are divided into parts by their samples' numbers; every reader of a part then
    scans the whole shard.

    Args:
      shards: the shards of a split.
      seed: the seed of the orders.
      shard_index: the index of this process.
      shard_count: the number of processes.
      workers: the number of workers among which grain will divide the result.
    """
    order, cycle = order_of(
        shards, seed, shard_index=shard_index, shard_count=shard_count, workers=workers
    )
    samples = grain.experimental.InterleaveIterDataset(
        _Datasets(order), cycle_length=cycle
    )
    if shards.window == 1:
        return samples
    return grain.experimental.WindowShuffleIterDataset(
        _Bounded(samples, shards.window), window_size=shards.window, seed=seed
    )


def order_of(
    shards: Shards,
    seed: int,
    *,
    shard_index: int = 0,
    shard_count: int = 1,
    workers: int = 0,
) -> "tuple[Order, int]":
    """Returns the pieces of one process, and how many of them to interleave."""
    readers = shard_count * max(1, workers)
    parts = 1
    while (len(shards.urls) * parts) % readers and (
        len(shards.urls) * parts < _EVEN * readers
    ):
        parts += 1
    pieces = range(len(shards.urls) * parts)[shard_index::shard_count]
    # A reader that opened more would begin an epoch before finishing the last one.
    cycle = max(1, min(shards.open_shards, len(pieces) // max(1, workers)))
    return Order(shards.urls, parts, pieces, seed), cycle


def in_order(shards: Shards) -> grain.IterDataset[Sample]:
    """Returns the samples of all shards once, in order."""
    pieces = [_Piece(url, 0, 1) for url in shards.urls]
    return grain.experimental.InterleaveIterDataset(pieces, cycle_length=1)


def read_sample(sample: Sample) -> Mapping[str, Any]:
    """Returns a sample as a record: `uid`, `image` uint8[H, W, 3], `prompt`.

    Raises:
      ValueError: the sample has a fault, or its image does not decode.
    """
    if sample.fault:
        raise ValueError(f"record {sample.uid!r}: {sample.fault}")
    try:
        image = images.read_image(sample.encoded())
    except images.ImageError as error:
        raise ValueError(f"record {sample.uid!r}, field 'image': {error}") from error
    return {"uid": sample.uid, "image": image, "prompt": sample.caption}


class _Bounded(grain.IterDataset[Sample]):
    """Releases images while the last `window` of them exceed `WINDOW_BYTES`."""

    def __init__(self, samples: grain.IterDataset[Sample], window: int):
        super().__init__(samples)
        self._window = window

    def __iter__(self) -> grain.DatasetIterator[Sample]:
        return _BoundedIterator(iter(self._parent), self._window)


class _BoundedIterator(grain.DatasetIterator[Sample]):
    def __init__(self, parent, window):
        super().__init__(parent)
        self._held: collections.deque[int] = collections.deque(maxlen=window)

    def __next__(self) -> Sample:
        sample = next(self._parent)
        if len(self._held) == self._held.maxlen:
            self._held.popleft()
        if sum(self._held) + len(sample.image) > WINDOW_BYTES and sample.place:
            sample = dataclasses.replace(sample, image=b"")
        self._held.append(len(sample.image))
        return sample

    def get_state(self) -> dict[str, Any]:
        return self._parent.get_state()

    def set_state(self, state: dict[str, Any]) -> None:
        self._parent.set_state(state)
        self._held.clear()


class Streamed(grain.IterDataset[ExampleResult]):
    """Samples -> examples; bad samples are skipped with their reasons, or raise."""

    def __init__(
        self,
        samples: grain.IterDataset[Sample],
        make: Callable[[Mapping[str, Any]], dict[str, np.ndarray]],
        skip: bool,
        attempts: int,
    ):
        """Wraps samples.

        Args:
          samples: the samples to read.
          make: makes task features from a record; raises ValueError for a bad one.
          skip: whether to continue after a bad record.
          attempts: after this many consecutive bad samples, no example is made.
        """
        super().__init__(samples)
        self._make, self._skip, self._attempts = make, skip, attempts

    def __iter__(self) -> grain.DatasetIterator[ExampleResult]:
        return _StreamedIterator(
            iter(self._parent), self._make, self._skip, self._attempts
        )


class _StreamedIterator(grain.DatasetIterator[ExampleResult]):
    def __init__(self, parent, make, skip, attempts):
        super().__init__(parent)
        self._make, self._skip, self._attempts = make, skip, attempts

    def __next__(self) -> ExampleResult:
        reasons: list[str] = []
        while len(reasons) < self._attempts:
            sample = next(self._parent)
            try:
                return ExampleResult(self._make(read_sample(sample)), reasons)
            except ValueError as error:
                if not self._skip:
                    raise
                reasons.append(str(error))
        return ExampleResult(None, reasons)

    def get_state(self) -> dict[str, Any]:
        return self._parent.get_state()

    def set_state(self, state: dict[str, Any]) -> None:
        self._parent.set_state(state)


@dataclasses.dataclass(frozen=True)
class Order(Sequence[tuple[str, int, int]]):
    """The pieces of one process, repeated endlessly in another order each epoch.

    A piece is (URL, part, parts): every `parts`-th sample of a shard. Grain gives
    worker i of n the slice `[i::n]`, which slices the pieces, so that a worker has the
    same ones in each epoch.
    """

    urls: tuple[str, ...]
    parts: int
    pieces: range
    seed: int

    def __len__(self) -> int:
        return 1 << 40

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return dataclasses.replace(self, pieces=self.pieces[index])
        epoch, position = divmod(index, len(self.pieces))
        piece = _permuted(self.pieces, f"{self.seed}/{epoch}")[position]
        shard, part = divmod(piece, self.parts)
        return self.urls[shard], part, self.parts


@dataclasses.dataclass(frozen=True)
class _Datasets(Sequence[grain.IterDataset[Sample]]):
    """The same pieces, as datasets for grain."""

    order: Order

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return _Datasets(self.order[index])
        return _Piece(*self.order[index])


@functools.lru_cache(maxsize=4)
def _permuted(pieces: range, seed: str) -> list[int]:
    # grain's index_shuffle would take up to a second for a handful.
    def key(piece: int) -> bytes:
        return hashlib.blake2b(f"{seed}/{piece}".encode(), digest_size=8).digest()

    return sorted(pieces, key=key)


class _Piece(grain.IterDataset[Sample]):
    """Every `parts`-th sample of a shard."""

    def __init__(self, url: str, part: int, parts: int):
        super().__init__()
        self._url, self._part, self._parts = url, part, parts

    def __iter__(self) -> grain.DatasetIterator[Sample]:
        return _PieceIterator(self._url, self._part, self._parts)


class _PieceIterator(grain.DatasetIterator[Sample]):
    def __init__(self, url: str, part: int, parts: int):
        super().__init__()
        self._url, self._part, self._parts = url, part, parts
        self._offset = self._number = 0
        self._samples = None

    def __next__(self) -> Sample:
        if self._samples is None:
            self._samples = read_shard(
                self._url,
                offset=self._offset,
                number=self._number,
                wanted=lambda number: number % self._parts == self._part,
            )
        sample = next(self._samples, None)
        if sample is None:
            if self._offset or self._number:
                raise StopIteration
            # A reader with no other piece would search for samples forever.
            sample = Sample(
                uid=f"{self._url}, part {self._part} of {self._parts}",
                number=0,
                end=-1,
                fault="no samples: the shards are too small for so many processes and "
                "workers",
            )
        self._offset, self._number = sample.end, sample.number + 1
        return sample

    def get_state(self) -> dict[str, Any]:
        return {"offset": self._offset, "number": self._number}

    def set_state(self, state: dict[str, Any]) -> None:
        self._offset, self._number = state["offset"], state["number"]
        self._samples = None
