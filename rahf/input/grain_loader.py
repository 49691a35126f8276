"""The loader on grain: no TensorFlow, every example made when it is asked for.

A task says which targets are asked of which records (`rahf.input.registry`); a
mixture takes turns between tasks.
"""

import dataclasses
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import grain
import numpy as np
from absl import flags

from rahf.datasets import captions, rated_images
from rahf.datasets.files.tar_shards import Shards
from rahf.input import shard_stream
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
from rahf.targets import Target, register, select

Infos = list[dict[str, Any]]

# Batches made ahead of the step that takes them.
_AHEAD = 4
# Records that may be tried in place of a bad one.
_ATTEMPTS = 100


class GrainTrainInput:
    """An endless iterator of batches that resumes exactly."""

    def __init__(
        self,
        batches: grain.IterDataset,
        workers: int,
        policy: Policy,
        records: Iterable[Any] = (),
    ):
        self._batches, self._workers = iter(batches), workers
        self._counter, self._records = Counter(policy), tuple(records)

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        batch, number, reasons = next(self._batches)
        self._counter.add(number, reasons)
        return batch

    def metrics(self) -> dict[str, float]:
        """Returns how many records were bad until now."""
        return self._counter.metrics()

    def digest(self) -> str | None:
        """Returns a digest of the records it reads, None where none of them has one."""
        return digest_of(self._records)

    def get_state(self) -> dict[str, Any]:
        """Returns where the next batch stands, as JSON can hold it."""
        return {
            "workers": self._workers,
            "iterator": self._batches.get_state(),
            "records": self._counter.get_state(),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Continues where `get_state` was called.

        Raises:
          ValueError: another loader, or one of other workers, made the state.
        """
        if not isinstance(state, dict) or "workers" not in state:
            raise ValueError(
                "config.input.loader='grain' cannot continue a run of another "
                "loader; set config.input.loader as it was"
            )
        if state["workers"] != self._workers:
            raise ValueError(
                f"config.input.workers={self._workers}, but the run to continue had "
                f"{state['workers']}; batches stand in another order among them"
            )
        self._batches.set_state(state["iterator"])
        if "records" in state:  # else a run from before they were counted
            self._counter.set_state(state["records"])

    def close(self) -> None:
        """Ends the worker processes, if there are any."""
        self._batches.close()


class GrainEvalBatches:
    """A sized, repeatable iterable of `(batch, infos)`.

    Attributes:
      bad_records: how many the last iteration has met.
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
            raise TypeError("shards do not say how many examples they have")
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
    records = cached_records(tasks, config.input)
    workers = config.input.workers
    streams = []
    for task in tasks:
        # Folding in the name gives every stream of a mixture its own order.
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
            streams.append(Streamed(samples, asked.make, policy.skip, _ATTEMPTS))
        else:
            indices = grain.MapDataset.range(len(asked.records)).shuffle(seed).repeat()
            make = policy.guard(asked.at, len(asked.records))
            streams.append(indices.map_with_index(make))
    batched = {"drop_remainder": True, "batch_fn": Batched(converter, batch_size)}
    if any(isinstance(stream, grain.IterDataset) for stream in streams):
        # Each process has its own part of every task.
        shares = [
            stream[shard_index::shard_count].to_iter_dataset(_read_options())
            if isinstance(stream, grain.MapDataset)
            else stream
            for stream in streams
        ]
        dataset = grain.IterDataset.mix(shares, weights).batch(batch_size, **batched)
        if not workers:
            dataset = grain.experimental.ThreadPrefetchIterDataset(
                dataset, prefetch_buffer_size=_AHEAD
            )
    else:
        examples = grain.MapDataset.mix(streams, weights)
        # Processes take turns by batches, so that together they make the batches
        # that one alone would make.
        batches = examples.batch(batch_size, **batched)[shard_index::shard_count]
        dataset = batches.to_iter_dataset(_read_options())
    if workers:
        if not flags.FLAGS.is_parsed():  # grain reads its flags, also in a library
            flags.FLAGS.mark_as_parsed()
        dataset = dataset.mp_prefetch(grain.MultiprocessingOptions(num_workers=workers))
    return GrainTrainInput(dataset, workers, policy, records.values())


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
    for task in for_targets(find(config.task.name), targets):
        records = task.records(split, config.input)
        asked = _Asked.from_task(task, split, records, config, vocabulary)
        if isinstance(asked.records, Shards):
            samples = shard_stream.in_order(asked.records)
            if examples:
                samples = grain.experimental.LimitIterDataset(samples, count=examples)
            streams.append(Streamed(samples, asked.make, policy.skip, attempts=1))
        else:
            number = min(examples or len(asked.records), len(asked.records))
            streams.append(grain.MapDataset.range(number).map(policy.guard(asked)))
    batched = BatchedWithInfos(converter, batch_size)
    if any(isinstance(stream, grain.IterDataset) for stream in streams):
        chain = grain.experimental.InterleaveIterDataset(streams, cycle_length=1)
        batches = chain.batch(batch_size, batch_fn=batched)
    else:
        chain = grain.MapDataset.concatenate(streams)
        batches = chain.batch(batch_size, batch_fn=batched)
    return GrainEvalBatches(batches, _read_options(), policy)


def _read_options() -> grain.ReadOptions:
    # Making an example is mostly Python: more threads would wait for each other.
    return grain.ReadOptions(num_threads=2, prefetch_buffer_size=_AHEAD)


@dataclasses.dataclass(frozen=True)
class _Asked:
    """Index of a record -> task features."""

    task: Task
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
            augmentation = Augmentation()  # captions of colours and places stay true
        maker = FeatureMaker.from_config(config, vocabulary)
        return cls(task, rows, records, maker, augmentation, seed)

    def make(self, record: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Returns the task features of a record."""
        # A worker process has not run the module that registered a user's target.
        names = [register(row).name for row in self.rows]
        task = self.task
        return self.maker.make(record, names, augment=task.augment, task=task.name)

    def __call__(self, index: int) -> dict[str, np.ndarray]:
        assert not isinstance(self.records, Shards)  # they have no indices
        return self.make(self.records[int(index)])

    def at(self, position: int, index: int) -> dict[str, np.ndarray]:
        """Asks the record at a position of the endless stream of this task."""
        assert not isinstance(self.records, Shards)
        epoch, record = position // len(self.records), self.records[int(index)]
        return self.make(self.augmentation(record, self.seed, int(index), epoch))
