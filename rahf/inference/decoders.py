"""Decodes the images of coming batches while the model runs, in other processes.

A decoder in C that crashes, or that the system kills for its memory, takes its process
along. Here that is not the process of the model: the image gets an error, the others of
its batch are decoded again, and the work goes on.
"""

import collections
import dataclasses
import itertools
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Self

import numpy as np

from rahf.inference import image_places
from rahf.inference.decode import decode, start_process
from rahf.inference.shards import Item

#: Batches that are read and decoded before the one in use is done.
AHEAD = 2
#: The fault of an image that ends its process.
DIED = "the process that decodes images died of it"
# 1 x 1, grey.
_SMALLEST = b"P5 1 1 255\n\x00"

Decode = Callable[[bytes | str, int], tuple[np.ndarray, tuple[int, int], str] | str]


@dataclasses.dataclass(frozen=True)
class Decoded:
    """An image, ready for the model.

    Attributes:
      item: what it was decoded from.
      square: uint8[S, S, 3]; None if it cannot be read.
      size: its own height and width.
      digest: the SHA-256 of its encoding, "" if it cannot be read.
      fault: why it cannot be read, "" if it can.
    """

    item: Item
    square: np.ndarray | None = None
    size: tuple[int, int] = (0, 0)
    digest: str = ""
    fault: str = ""


def decode_item(item: Item, side: int, decode: Decode = decode) -> Decoded:
    """Reads, decodes and resizes an image.

    Args:
      item: the image.
      side: the side of the model's square.
      decode: decodes it, here or elsewhere.
    """
    source = item.image
    if item.fault:
        return Decoded(item, fault=item.fault)
    if isinstance(source, str) and not image_places.is_file(source):
        try:
            source = image_places.read(source)
        except (OSError, ValueError) as error:
            return Decoded(item, fault=str(error))
    found = decode(source, side)
    if isinstance(found, str):
        return Decoded(item, fault=found)
    return Decoded(item, *found)


class Decoders:
    """A pool of processes that decode images.

    Attributes:
      side: the side of the model's square.
      processes: their number; 0 = threads of this process, which a crash ends.
    """

    def __init__(self, side: int, processes: int, decode: Decode = decode):
        """Starts nothing yet.

        Args:
          side, processes: see the class.
          decode: decodes one image; a function of a module.
        """
        self.side, self.processes = side, processes
        self._decode = decode
        self._threads = ThreadPoolExecutor(max(2, processes))
        self._pool = self._new_pool(processes) if processes else None
        self._alone: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception) -> None:
        self._threads.shutdown(cancel_futures=True)
        for pool in (self._pool, self._alone):
            if pool is not None:
                pool.shutdown(cancel_futures=True)

    def batches(self, items: Iterator[Item], size: int) -> Iterator[list[Decoded]]:
        """Yields images in their order, `size` at a time and fewer at the end.

        Reading and decoding run `AHEAD` batches ahead; what `items` raises is raised
        once the batches before it are used.

        Raises:
          ValueError: the processes cannot run at all.
        """

        def start() -> list[tuple[Item, Future]]:
            batch = itertools.islice(items, size)
            return [(item, self._submit(item)) for item in batch]

        with ThreadPoolExecutor(1) as reader:
            ahead = collections.deque(reader.submit(start) for _ in range(AHEAD))
            while batch := ahead.popleft().result():
                ahead.append(reader.submit(start))
                yield [self._result(item, future) for item, future in batch]

    def _submit(self, item: Item) -> Future:
        return self._threads.submit(self._decode_item, item, self._pool)

    def _new_pool(self, processes: int) -> ProcessPoolExecutor:
        # Forked of this process they might inherit a lock that a thread of JAX holds.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["rahf.inference.decode"])
        return ProcessPoolExecutor(
            processes, mp_context=context, initializer=start_process
        )

    def _decode_item(self, item: Item, pool: ProcessPoolExecutor | None) -> Decoded:
        if pool is None:
            return decode_item(item, self.side, self._decode)
        return decode_item(
            item, self.side, lambda *args: pool.submit(self._decode, *args).result()
        )

    def _result(self, item: Item, future: Future) -> Decoded:
        try:
            return future.result()
        except BrokenProcessPool:
            pass  # of this image, or of another at the same time
        except RuntimeError:
            if self._pool is None:
                raise  # not that of a pool that was shut down
        self._renew()
        return self._decode_alone(item)

    def _renew(self) -> None:
        """Replaces the pool if it is broken."""
        if self._pool is None:
            return
        try:
            self._pool.submit(decode, _SMALLEST, 1).result()
        except (BrokenProcessPool, RuntimeError):
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = self._new_pool(self.processes)

    def _decode_alone(self, item: Item) -> Decoded:
        """Decodes an image in a process that has no other, to blame the right one."""
        if self._alone is None:
            self._alone = self._new_pool(1)
        try:
            return self._decode_item(item, self._alone)
        except BrokenProcessPool:
            self._alone.shutdown()
            self._alone = self._new_pool(1)
        try:
            self._alone.submit(decode, _SMALLEST, 1).result()
        except BrokenProcessPool as error:
            raise ValueError(
                "the processes that decode images die at once; is there memory left? "
                "--decoders=0 decodes within this process"
            ) from error
        return Decoded(item, fault=DIED)
