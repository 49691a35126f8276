"""The loader for tasks and mixtures registered with seqio."""

import dataclasses
import functools
import io
import itertools
import json
import math
import pathlib
import tarfile
import tempfile
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import seqio
import tensorflow as tf

from rahf.input.bad_records import Counter, Policy
from rahf.input.converter import Batch, Converter
from rahf.input.grain_loader import Infos
from rahf.input.registry import for_targets, parts_of, weights_of
from rahf.input.seqio.digests import digest_of_tasks
from rahf.input.seqio.python_map import wait_until_idle
from rahf.input.seqio.tasks import AskFor, building
from rahf.input.vocabulary import Vocabulary

# The file of record counts, beside the iterator in a saved state.
_COUNTS = "records.json"


@dataclasses.dataclass(frozen=True)
class FoundTask:
    """A registered task.

    Attributes:
      name: the registered name.
      targets: the targets of its `AskFor`; empty if it has none.
      task: the task.
    """

    name: str
    targets: tuple[str, ...]
    task: seqio.Task


def find(name: str) -> list[FoundTask]:
    """Returns the task called `name`, or the tasks of that mixture.

    `a+b` is a mixture of `a` and `b`.
    """
    return [found for found, _ in _find_with_rates(name)]


def _find_with_rates(name: str) -> list[tuple[FoundTask, float]]:
    known = sorted({*seqio.TaskRegistry.names(), *seqio.MixtureRegistry.names()})
    found: dict[str, tuple[FoundTask, float]] = {}
    for part in parts_of(name, known, "seqio"):
        provider = seqio.get_mixture_or_task(part)
        for task in seqio.get_subtasks(provider):
            asks = [p for p in task.preprocessors if isinstance(p, AskFor)]
            targets = asks[-1].targets if asks else ()
            mixed = isinstance(provider, seqio.Mixture)
            rate = float(provider.get_rate(task)) if mixed else 1.0
            found[task.name] = FoundTask(task.name, targets, task), rate
    return list(found.values())


def _provider(config) -> seqio.Task | seqio.Mixture:
    """Returns the config's task or mixture, with its weights."""
    found = _find_with_rates(config.task.name)
    given = dict(config.task.get("weights") or {})
    weights = weights_of([task for task, _ in found], config)  # checks them
    if not given and "+" not in config.task.name:
        return seqio.get_mixture_or_task(config.task.name)
    if len(found) == 1:
        return found[0][0].task
    return seqio.Mixture(
        "of_config_task",
        [
            (task.name, weight if task.name in given else rate)
            for (task, rate), weight in zip(found, weights, strict=True)
        ],
    )


class SeqioTrainInput:
    """An endless iterator of batches that resumes exactly."""

    def __init__(
        self,
        dataset: tf.data.Dataset,
        converter: Converter,
        batch_size: int,
        policy: Policy,
        digest: Callable[[], str | None] = lambda: None,
    ):
        """Starts iterating over task features; `digest` identifies the data behind them."""
        options = tf.data.Options()
        # Our Python functions keep no state between elements, so nothing is lost.
        options.experimental_external_state_policy = (
            tf.data.experimental.ExternalStatePolicy.IGNORE
        )
        self._dataset = dataset.with_options(options)
        self._converter, self._batch_size = converter, batch_size
        self._digest = digest
        self._iterator = iter(self._dataset)
        self._counter = Counter(policy)
        self._examples = _Reader(self._iterator, converter.task, self._counter)
        weakref.finalize(self, wait_until_idle)

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        examples = list(itertools.islice(self._examples, self._batch_size))
        if len(examples) < self._batch_size:
            raise StopIteration  # an endless dataset without examples
        return self._converter(examples)

    def metrics(self) -> dict[str, float]:
        """Returns the number of bad records so far."""
        return self._counter.metrics()

    def digest(self) -> str | None:
        """Returns a digest of the data it reads, None where none of it has one."""
        return self._digest()

    def get_state(self) -> bytes:
        """Returns the position of the next batch, as a tarred TensorFlow checkpoint."""
        with tempfile.TemporaryDirectory() as folder:
            prefix = str(pathlib.Path(folder) / "iterator")
            tf.train.Checkpoint(iterator=self._iterator).write(prefix)
            counts = json.dumps(self._counter.get_state())
            (pathlib.Path(folder) / _COUNTS).write_text(counts)
            buffer = io.BytesIO()
            with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
                archive.add(folder, arcname=".")
        return buffer.getvalue()

    def set_state(self, state: bytes) -> None:
        """Continues where `get_state` was called.

        Raises:
          ValueError: the state is from another loader.
        """
        if not (isinstance(state, bytes) and state.startswith(b"\x1f\x8b")):
            raise ValueError(
                "config.input.loader='seqio' cannot continue a run of another loader; "
                "restore config.input.loader"
            )
        with tempfile.TemporaryDirectory() as folder:
            with tarfile.open(fileobj=io.BytesIO(state)) as archive:
                archive.extractall(folder, filter="data")
            prefix = str(pathlib.Path(folder) / "iterator")
            checkpoint = tf.train.Checkpoint(iterator=self._iterator)
            checkpoint.read(prefix).assert_consumed()
            counts = pathlib.Path(folder) / _COUNTS
            if counts.exists():  # older runs did not count records
                self._counter.set_state(json.loads(counts.read_text()))

    def close(self) -> None:
        """Waits for examples that are being prepared."""
        wait_until_idle()


class SeqioEvalBatches:
    """A repeatable iterable of `(batch, infos)`, with a length if the source has one.

    Attributes:
      bad_records: the number of bad records in the last iteration.
    """

    def __init__(
        self,
        datasets: Sequence[tf.data.Dataset],
        numbers: Sequence[int | None],
        converter: Converter,
        batch_size: int,
        policy: Policy,
    ):
        self._datasets, self._numbers = datasets, numbers
        self._converter, self._batch_size = converter, batch_size
        self._policy, self.bad_records = policy, 0

    def __len__(self) -> int:
        known = [number for number in self._numbers if number is not None]
        if len(known) < len(self._numbers):
            raise TypeError("the number of examples in the source is unknown")
        return math.ceil(sum(known) / self._batch_size)

    def __iter__(self) -> Iterator[tuple[Batch, Infos]]:
        elements = itertools.chain.from_iterable(self._datasets)
        counter, self.bad_records = Counter(self._policy), 0
        examples = _Reader(elements, self._converter.task, counter)
        try:
            while taken := list(itertools.islice(examples, self._batch_size)):
                self.bad_records = counter.bad
                batch = self._converter(taken, self._batch_size)
                yield batch, self._converter.infos(taken)
            self.bad_records = counter.bad  # includes those after the last good one
        except GeneratorExit:  # dropped before the end
            wait_until_idle()
            raise


def make_train_input(
    config,
    converter: Converter,
    vocabulary: Vocabulary,
    *,
    batch_size: int,
    shard_index: int,
    shard_count: int,
) -> SeqioTrainInput:
    """Makes the input of one shard; see `rahf.input.loader.make_train_input`."""
    del vocabulary  # the preprocessors load it
    with building(config):
        dataset = _provider(config).get_dataset(
            sequence_length=_lengths(converter),
            split="train",
            shuffle=True,
            seed=config.seed,
            shard_info=seqio.ShardInfo(shard_index, shard_count),
            num_epochs=None,
            # A cache would keep the first epoch's order for all epochs.
            try_in_mem_cache=False,
        )
    tasks = [found.task for found in find(config.task.name)]
    return SeqioTrainInput(
        dataset,
        converter,
        batch_size,
        Policy.from_config(config),
        functools.partial(digest_of_tasks, tasks, config),
    )


def make_eval_batches(
    config,
    converter: Converter,
    vocabulary: Vocabulary,
    *,
    split: str,
    targets: Sequence[str],
    batch_size: int,
    examples: int,
) -> SeqioEvalBatches:
    """Makes the batches of a split; see `rahf.input.loader.make_eval_batches`."""
    del vocabulary  # the preprocessors load it
    datasets, numbers = [], []
    for found in for_targets(find(config.task.name), targets):
        if split not in found.task.splits:
            raise ValueError(
                f"task {found.name!r} has no split {split!r}; "
                f"it has {', '.join(found.task.splits)}"
            )
        with building(config):
            dataset = found.task.get_dataset(
                sequence_length=_lengths(converter),
                split=split,
                shuffle=False,
                try_in_mem_cache=False,
            )
            number = found.task.num_input_examples(split)
        if examples:
            dataset = dataset.take(examples)
            number = min(number, examples) if number is not None else None
        datasets.append(dataset)
        numbers.append(number)
    return SeqioEvalBatches(
        datasets, numbers, converter, batch_size, Policy.from_config(config)
    )


def _lengths(converter: Converter) -> dict[str, int]:
    """Returns seqio's `sequence_length`."""
    decoded = ("targets", "prompt", "word_ends", "word_labels")
    return {
        "image": converter.image_size,
        "inputs": converter.text_length,
    } | dict.fromkeys(decoded, converter.target_length)


class _Reader:
    """Yields examples as numpy arrays; errors inside TensorFlow become ValueErrors.

    A dataset continues after an element that failed, so bad records can be skipped.
    """

    def __init__(self, elements: Iterator[Any], name: str, counter: Counter):
        self._elements, self._name, self._counter = elements, name, counter

    def __iter__(self) -> "_Reader":
        return self

    def __next__(self) -> dict[str, np.ndarray]:
        while True:
            try:
                example = next(self._elements)
            except UnicodeDecodeError as error:
                # TensorFlow failed to report an error, and may crash after it.
                raise ValueError(
                    f"config.task.name={self._name!r} has a damaged record; read it "
                    "with rahf.input.seqio.tasks.TFExampleSource to find out more"
                ) from error
            except tf.errors.OpError as error:
                why = f"config.task.name={self._name!r} failed to make an example: "
                why += error.message
                # Our ValueErrors and mismatched fields become InvalidArgumentError.
                # Other errors, such as a truncated file, would recur forever.
                record = isinstance(error, tf.errors.InvalidArgumentError)
                if not (record and self._counter.policy.skip):
                    raise ValueError(why) from error
                self._counter.add(0, [why.split("\nTraceback")[0]])
            else:
                self._counter.add(1)
                return {name: value.numpy() for name, value in example.items()}
