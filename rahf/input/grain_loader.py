"""The grain loader, which makes every example on demand, without TensorFlow.

A task defines which targets are asked of which records (`rahf.input.registry`); a
mixture alternates between tasks.
"""

import dataclasses
import functools
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import grain
import numpy as np

from rahf.datasets import captions, rated_images
from rahf.datasets.files.tar_shards import Shards
from rahf.input import pairs, positions, shard_stream
from rahf.input.augmentation import Augmentation
from rahf.input.bad_records import Counter, Policy
from rahf.input.batching import Batched, BatchedWithInfos
from rahf.input.converter import Batch, Converter
from rahf.input.digests import digest_of
from rahf.input.features import FeatureMaker
from rahf.input.record_cache import RecordCache, cached_records
from rahf.input.registry import Records, Task, find, for_targets, weights_of
from rahf.input.shard_stream import Streamed
from rahf.input.vocabulary import Vocabulary
from rahf.input.workers import in_workers
from rahf.models import passes
from rahf.targets import Target, register, select

Infos = list[dict[str, Any]]
_Change = Callable[[Mapping[str, Any], int], Mapping[str, Any]]

# The number of batches to make in advance.
_AHEAD = 4
# The number of records to try in place of a bad one.
_ATTEMPTS = 100


class GrainTrainInput:
    """An endless iterator of batches that resumes exactly.

    Records with indices come in one global order, of which a position is a number of
    examples: it holds for any batch size and any number of processes and workers.
    Shards are read by each process and worker for itself.
    """

    def __init__(
        self,
        batches_from: Callable[[int], grain.IterDataset],
        global_size: int,
        workers: int,
        policy: Policy,
        records: Iterable[Any] = (),
    ):
        """Prepares the batches; nothing is read yet.

        Args:
          batches_from: number of examples to pass over -> batches of this process.
          global_size: examples in a batch of all processes; 0 if positions in this data
            are not numbers of examples.
          workers: the number of worker processes.
          policy: what to do with bad records.
          records: the sources, for their digest.
        """
        self._batches_from = batches_from
        self._size, self._workers = global_size, workers
        self._counter, self._records = Counter(policy), tuple(records)
        self._examples, self._started, self._closed = 0, None, []

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        try:
            batch, number, reasons = next(self._iterator())
        except RuntimeError as error:
            if "Worker process was terminated" not in str(error):
                raise
            raise ChildProcessError(
                f"a worker process of the training input ended "
                f"({str(error).split('.')[0]}); was it killed for want of memory? Lower "
                f"config.input.workers={self._workers} or config.input.cache"
            ) from error
        self._examples += self._size
        self._counter.add(number, reasons)
        return batch

    def _iterator(self) -> grain.DatasetIterator:
        if self._started is None:
            self._started = iter(self._batches_from(self._examples))
        return self._started

    def metrics(self) -> dict[str, float]:
        """Returns the number of bad records so far."""
        return self._counter.metrics()

    def records(self) -> int | None:
        """Returns the number of records, each source once; None for shards."""
        sources = {id(each): each for each in self._records}.values()
        if any(isinstance(each, Shards) for each in sources):
            return None
        return max((len(each) for each in sources), default=None)

    def digest(self) -> str | None:
        """Returns a digest of the records, or None if no source has one."""
        return digest_of(self._records)

    def get_state(self) -> dict[str, Any]:
        """Returns the position of the next batch, as JSON-able values."""
        counts = {"records": self._counter.get_state()}
        if self._size:
            return {positions.EXAMPLES: self._examples} | counts
        streams = self._iterator().get_state()
        return {"workers": self._workers, "streams": streams} | counts

    def set_state(self, state: dict[str, Any]) -> None:
        """Continues where `get_state` was called.

        Raises:
          ValueError: the state is from another loader or, with shards, another number
            of workers.
        """
        known = {positions.EXAMPLES if self._size else "streams", positions.BATCHES}
        if not isinstance(state, dict) or not known & state.keys():
            raise ValueError(
                "config.input.loader='grain' cannot continue a run of another loader, "
                "or of shards where there were none; restore config.input"
            )
        if self._size:
            taken = state.get(positions.EXAMPLES)
            if taken is None:
                taken = positions.batches_taken(state) * self._size
            self.close()
            # Kept: in Python 3.11, grain's iterators share a lock, and one that is
            # collected while another starts may wait for it forever.
            self._closed.append(self._started)
            self._started, self._examples = None, int(taken)
        elif state["workers"] != self._workers:
            raise ValueError(
                f"config.input.workers={self._workers}, but the run to continue had "
                f"{state['workers']}; each worker reads shards of its own"
            )
        else:
            self._iterator().set_state(state.get("streams") or state["iterator"])
        if "records" in state:  # older runs did not count records
            self._counter.set_state(state["records"])

    def close(self) -> None:
        """Ends the worker processes, if there are any."""
        if self._started is not None:
            self._started.close()


class GrainEvalBatches:
    """A sized, repeatable iterable of `(batch, infos)`.

    Attributes:
      bad_records: the number of bad records in the last iteration.
    """

    def __init__(
        self,
        batches: grain.MapDataset | grain.IterDataset,
        options: grain.ReadOptions,
        policy: Policy,
    ):
        self._batches, self._options, self._policy = batches, options, policy
        self.bad_records = 0

    def __len__(self) -> int:
        if isinstance(self._batches, grain.IterDataset):
            raise TypeError("the number of examples in shards is unknown")
        return len(self._batches)

    def __iter__(self) -> Iterator[tuple[Batch, Infos]]:
        counter, self.bad_records = Counter(self._policy), 0
        batches = self._batches
        if isinstance(batches, grain.MapDataset):
            batches = batches.to_iter_dataset(self._options)
        for batch, infos, reasons in batches:
            counter.add(len(infos), reasons)
            self.bad_records = counter.bad
            yield batch, infos


def make_train_input(
    config,
    converter: Converter,
    vocabulary: Vocabulary,
    *,
    batch_size: int,
    shard_index: int,
    shard_count: int,
) -> GrainTrainInput:
    """Makes the input of one shard; see `rahf.input.loader.make_train_input`."""
    policy, tasks = Policy.from_config(config), find(config.task.name)
    weights = weights_of(tasks, config)
    together = pairs.check(config, tasks, batch_size, "config.input.batch_size")
    records = cached_records(tasks, config.input)
    workers = config.input.workers
    streams = []
    for task in tasks:
        # The name gives every stream of a mixture its own order.
        seed = zlib.crc32(f"{config.seed}/{task.order_name}".encode())
        asked = _Asked.from_task(
            task, "train", records[task.records], config, vocabulary, seed=seed
        )
        if isinstance(asked.records, Shards):
            samples = shard_stream.shuffled(
                asked.records,
                seed,
                shard_index=shard_index,
                shard_count=shard_count,
                workers=workers,
            )
            stream = Streamed(samples, asked.make, policy.skip, _ATTEMPTS)
        else:
            indices = grain.MapDataset.range(len(asked.records)).shuffle(seed).repeat()
            make = policy.guard(asked.at, len(asked.records))
            stream = indices.map_with_index(make)
        streams.append(_two_by_two(stream, task, together))
    batched = {"drop_remainder": True, "batch_fn": Batched(converter, batch_size)}
    streamed = any(isinstance(stream, grain.IterDataset) for stream in streams)
    global_size = 0 if streamed else batch_size * shard_count

    def batches_from(position: int) -> grain.IterDataset:
        if streamed:
            share = slice(shard_index, None, shard_count)
            mixed = _mix_streams(streams, weights, share)
            dataset = mixed.batch(batch_size // together, **batched)
            if not workers:
                dataset = grain.experimental.ThreadPrefetchIterDataset(
                    dataset, prefetch_buffer_size=_AHEAD
                )
        else:
            examples = grain.MapDataset.mix(streams, weights)[position // together :]
            batches = examples.batch(batch_size // together, **batched)
            # Processes alternate by batch, so that together they make the same batches
            # as a single one.
            batches = batches[shard_index::shard_count]
            dataset = batches.to_iter_dataset(_read_options())
        return in_workers(dataset, workers) if workers else dataset

    return GrainTrainInput(batches_from, global_size, workers, policy, records.values())


def _two_by_two(stream: Any, task: Task, together: int, whole: bool = True) -> Any:
    """Returns a stream whose elements are each `together` rows of a batch.

    Args:
      stream: the examples of a task; those of a task of pairs are two rows already.
      task: the task.
      together: 2 beside a task of pairs, else 1.
      whole: whether to leave out an example that would be alone.
    """
    if together == 1 or pairs.has_pairs(task.targets):
        return stream
    join = functools.partial(pairs.join, whole=whole)
    return stream.batch(together, drop_remainder=whole, batch_fn=join)


def _mix_streams(
    streams: Sequence[grain.MapDataset | grain.IterDataset],
    weights: Sequence[float],
    share: slice,
) -> grain.IterDataset:
    """Returns a mixture of which each process reads its own part of every task."""
    shares = [
        stream[share].to_iter_dataset(_read_options())
        if isinstance(stream, grain.MapDataset)
        else stream
        for stream in streams
    ]
    return grain.IterDataset.mix(shares, weights)


def make_eval_batches(
    config,
    converter: Converter,
    vocabulary: Vocabulary,
    *,
    split: str,
    targets: Sequence[str],
    batch_size: int,
    examples: int,
) -> GrainEvalBatches:
    """Makes the batches of a split; see `rahf.input.loader.make_eval_batches`."""
    streams, policy = [], Policy.from_config(config)
    tasks = for_targets(find(config.task.name), targets)
    together = pairs.check(config, tasks, batch_size, "config.eval.batch_size")
    # Pairs first: where others come to an odd number, no pair comes after them.
    tasks.sort(key=lambda task: not pairs.has_pairs(task.targets))
    for task in tasks:
        records = task.records(split, config.input)
        asked = _Asked.from_task(task, split, records, config, vocabulary)
        if isinstance(asked.records, Shards):
            samples = shard_stream.in_order(asked.records)
            if examples:
                samples = grain.experimental.LimitIterDataset(samples, count=examples)
            stream = Streamed(samples, asked.make, policy.skip, attempts=1)
        else:
            number = min(examples or len(asked.records), len(asked.records))
            stream = grain.MapDataset.range(number).map(policy.guard(asked))
        streams.append(_two_by_two(stream, task, together, whole=False))
    batched = BatchedWithInfos(converter, batch_size)
    if any(isinstance(stream, grain.IterDataset) for stream in streams):
        chain = grain.experimental.InterleaveIterDataset(streams, cycle_length=1)
    else:
        chain = grain.MapDataset.concatenate(streams)
    batches = chain.batch(batch_size // together, batch_fn=batched)
    return GrainEvalBatches(batches, _read_options(), policy)


def _read_options() -> grain.ReadOptions:
    # Making an example is mostly Python, so more threads would not help.
    return grain.ReadOptions(num_threads=2, prefetch_buffer_size=_AHEAD)


@dataclasses.dataclass(frozen=True)
class _Asked:
    """Index of a record -> task features."""

    task: Task
    augment: bool
    rows: tuple[Target, ...]
    records: Records | Shards
    maker: FeatureMaker
    augmentation: Augmentation
    seed: int

    @classmethod
    def from_task(
        cls,
        task: Task,
        split: str,
        records: Records | Shards,
        config,
        vocabulary: Vocabulary,
        *,
        seed: int = 0,
    ) -> "_Asked":
        if not isinstance(records, Shards) and not len(records):
            raise ValueError(f"task {task.name!r} has no records in split {split!r}")
        rows = tuple(select(task.targets))
        augmentation = Augmentation.from_options(config.input)
        source = records.records if isinstance(records, RecordCache) else records
        if isinstance(source, rated_images.RatedImages):
            rated_images.check_targets(source.targets, task.targets)
        if isinstance(source, captions.CaptionTable):
            augmentation = Augmentation()  # captions may mention colours and positions
        maker = FeatureMaker.from_config(config, vocabulary)
        asks = task.augment
        augment = passes.is_augmented(config) if asks is None else asks
        return cls(task, augment, rows, records, maker, augmentation, seed)

    def make(self, record: Mapping[str, Any], change: _Change = lambda x, _: x) -> Any:
        """Makes the task features of a record.

        Args:
          record: the record, or that of a pair.
          change: augments (a record, the number of its side).

        Returns:
          The features, or those of both sides of a pair.
        """
        # A worker process has not imported the module that registers a user's target.
        names = [register(row).name for row in self.rows]

        def ask(record: Mapping[str, Any]) -> dict[str, np.ndarray]:
            return self.maker.make(
                record, names, augment=self.augment, task=self.task.name
            )

        if not pairs.has_pairs(names):
            return ask(change(record, 0))
        both = pairs.sides(record, names, self.task.name)
        return tuple(ask(change(side, number)) for number, side in enumerate(both))

    def __call__(self, index: int) -> Any:
        assert not isinstance(self.records, Shards)  # they have no indices
        return self.make(self.records[int(index)])

    def at(self, position: int, index: int) -> Any:
        """Returns the augmented task features at a position of the endless stream."""
        assert not isinstance(self.records, Shards)
        number = len(self.records)
        epoch, record = position // number, self.records[int(index)]

        def change(record: Mapping[str, Any], side: int) -> Mapping[str, Any]:
            # Each side of a pair is changed in its own way.
            place = int(index) + number * side
            return self.augmentation(record, self.seed, place, epoch)

        return self.make(record, change)
