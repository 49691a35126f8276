"""The loader for any task or mixture that is registered with seqio."""

import dataclasses
import io
import itertools
import math
import pathlib
import tarfile
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import seqio
import tensorflow as tf

from rahf.data.converter import Batch, Converter
from rahf.data.procedural import Infos, for_targets
from rahf.data.seqio_tasks import AskFor, building, wait_until_idle
from rahf.data.vocabulary import Vocabulary


@dataclasses.dataclass(frozen=True)
class FoundTask:
    """A registered task.

    Attributes:
      name: as registered.
      targets: what its `AskFor` asks; empty where it has none.
      task: the task.
    """

    name: str
    targets: tuple[str, ...]
    task: seqio.Task


def find(name: str) -> list[FoundTask]:
    """Returns the task called `name`, or those of the mixture called so."""
    tasks, mixtures = seqio.TaskRegistry.names(), seqio.MixtureRegistry.names()
    if name not in tasks and name not in mixtures:
        raise ValueError(
            f"config.task.name={name!r} is not known to config.input.loader='seqio'; "
            f"known: {', '.join(sorted({*tasks, *mixtures})) or 'none'} (tasks are "
            "registered by config.task.modules)"
        )
    found = []
    for task in seqio.get_subtasks(seqio.get_mixture_or_task(name)):
        asks = [p for p in task.preprocessors if isinstance(p, AskFor)]
        found.append(FoundTask(task.name, asks[-1].targets if asks else (), task))
    return found


class TrainInput:
    """An endless iterator of batches that resumes exactly."""

    def __init__(self, dataset: tf.data.Dataset, converter: Converter, batch_size: int):
        """Starts a dataset of task features."""
        options = tf.data.Options()
        # Rendering and asking keep no state between elements, so nothing is lost.
        options.experimental_external_state_policy = (
            tf.data.experimental.ExternalStatePolicy.IGNORE
        )
        self._dataset = dataset.with_options(options)
        self._converter, self._batch_size = converter, batch_size
        self._iterator = iter(self._dataset)
        self._examples = _read(self._iterator, converter.task)
        weakref.finalize(self, wait_until_idle)

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        examples = list(itertools.islice(self._examples, self._batch_size))
        if len(examples) < self._batch_size:
            raise StopIteration  # an endless dataset without examples
        return self._converter(examples)

    def get_state(self) -> bytes:
        """Returns where the next batch stands: a TensorFlow checkpoint, tarred."""
        with tempfile.TemporaryDirectory() as folder:
            prefix = str(pathlib.Path(folder) / "iterator")
            tf.train.Checkpoint(iterator=self._iterator).write(prefix)
            buffer = io.BytesIO()
            with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
                archive.add(folder, arcname=".")
        return buffer.getvalue()

    def set_state(self, state: bytes) -> None:
        """Continues where `get_state` was called.

        Raises:
          ValueError: another loader made the state.
        """
        if not (isinstance(state, bytes) and state.startswith(b"\x1f\x8b")):
            raise ValueError(
                "config.input.loader='seqio' cannot continue a run of another loader; "
                "set config.input.loader as it was"
            )
        with tempfile.TemporaryDirectory() as folder:
            with tarfile.open(fileobj=io.BytesIO(state)) as archive:
                archive.extractall(folder, filter="data")
            prefix = str(pathlib.Path(folder) / "iterator")
            checkpoint = tf.train.Checkpoint(iterator=self._iterator)
            checkpoint.read(prefix).assert_consumed()

    def close(self) -> None:
        """Waits for what is being made ahead."""
        wait_until_idle()


class EvalBatches:
    """A repeatable iterable of `(batch, infos)`, sized where the source is."""

    def __init__(
        self,
        datasets: Sequence[tf.data.Dataset],
        numbers: Sequence[int | None],
        converter: Converter,
        batch_size: int,
    ):
        self._datasets, self._numbers = datasets, numbers
        self._converter, self._batch_size = converter, batch_size

    def __len__(self) -> int:
        known = [number for number in self._numbers if number is not None]
        if len(known) < len(self._numbers):
            raise TypeError("the source does not say how many examples it has")
        return math.ceil(sum(known) / self._batch_size)

    def __iter__(self) -> Iterator[tuple[Batch, Infos]]:
        elements = itertools.chain.from_iterable(self._datasets)
        examples = _read(elements, self._converter.task)
        try:
            while taken := list(itertools.islice(examples, self._batch_size)):
                batch = self._converter(taken, self._batch_size)
                yield batch, self._converter.infos(taken)
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
) -> TrainInput:
    """Makes the input of one shard; see `rahf.data.input.make_train_input`."""
    del vocabulary  # the preprocessors load it
    find(config.task.name)
    with building(config):
        dataset = seqio.get_mixture_or_task(config.task.name).get_dataset(
            sequence_length=_lengths(converter),
            split="train",
            shuffle=True,
            seed=config.seed,
            shard_info=seqio.ShardInfo(shard_index, shard_count),
            num_epochs=None,
            # It would keep the first epoch's order for all epochs.
            try_in_mem_cache=False,
        )
    return TrainInput(dataset, converter, batch_size)


def make_eval_batches(
    config,
    converter: Converter,
    vocabulary: Vocabulary,
    *,
    split: str,
    targets: Sequence[str],
    batch_size: int,
    examples: int,
) -> EvalBatches:
    """Makes the batches of a split; see `rahf.data.input.make_eval_batches`."""
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
    return EvalBatches(datasets, numbers, converter, batch_size)


def _lengths(converter: Converter) -> dict[str, int]:
    """Returns seqio's `sequence_length`."""
    decoded = ("targets", "prompt", "word_ends", "word_labels")
    return {
        "image": converter.image_size,
        "inputs": converter.text_length,
    } | dict.fromkeys(decoded, converter.target_length)


def _read(iterator: Iterator[Any], name: str) -> Iterator[dict[str, np.ndarray]]:
    """Yields examples as numpy arrays; errors inside TensorFlow become ValueErrors."""
    while True:
        try:
            example = next(iterator)
        except StopIteration:
            return
        except tf.errors.OpError as error:
            raise ValueError(
                f"config.task.name={name!r} failed to make an example: {error.message}"
            ) from error
        yield {name: value.numpy() for name, value in example.items()}
