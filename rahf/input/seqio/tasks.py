"""What seqio tasks are made of: sources and preprocessors.

A task for RAHF ends in the preprocessor `AskFor(targets)`, which takes elements with
the fields of a record, and has `OUTPUT_FEATURES` (docs/tasks.md).
"""

import contextlib
import contextvars
import functools
import time
import types
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import seqio
import tensorflow as tf
from google.protobuf.message import DecodeError

from rahf.datasets.rated_images import RatedImages, check_targets
from rahf.input import features, vocabulary
from rahf.input.augmentation import Augmentation
from rahf.input.registry import Records
from rahf.input.seqio.source import OwnOrderSource
from rahf.targets import Kind, select

with contextlib.suppress(RuntimeError):  # raised where TensorFlow already runs
    tf.config.set_visible_devices([], "GPU")  # they belong to JAX

MakeRecords = Callable[[str, Mapping[str, Any]], Records]

#: The output features of every task: `rahf.input.features.FEATURES`, for seqio.
OUTPUT_FEATURES = {
    name: seqio.ContinuousFeature(
        dtype=tf.string if dtype == "str" else tf.as_dtype(dtype), rank=rank
    )
    for name, (dtype, rank) in features.FEATURES.items()
}

# config.input of the loader that is building a dataset: seqio tasks are registered
# before any config is read, and hand their preprocessors lengths only.
_OPTIONS: contextvars.ContextVar[Mapping[str, Any]] = contextvars.ContextVar(
    "rahf_input_options", default=types.MappingProxyType({})
)

# Of each kind of label: dtype, shape, and what stands for a missing one, since a
# tensor cannot be left out.
_LABELS = {
    Kind.HEATMAP: ("float32", [None, None], np.zeros((0, 0), np.float32)),
    Kind.SCORE: ("float32", [], np.float32("nan")),
    Kind.WORDS: ("int8", [None], np.full(1, -1, np.int8)),
    Kind.CAPTION: ("str", [], ""),
    Kind.WORD_PRESENCE: ("int8", [None], np.full(1, -1, np.int8)),
}


@contextlib.contextmanager
def building(config) -> Iterator[None]:
    """Lets the datasets that are built inside see `config.input`."""
    token = _OPTIONS.set(config.input.to_dict())
    try:
        yield
    finally:
        _OPTIONS.reset(token)


def options() -> Mapping[str, Any]:
    """Returns the `config.input` of the loader that is building, or nothing."""
    return _OPTIONS.get()


class RecordSource(OwnOrderSource):
    """A source over `(split, config.input) -> sequence of records`.

    It yields `{"split", "index", "epoch", "seed"}`, of which the preprocessor
    `read_records` makes the record; epoch -1 asks for it without augmentation.
    Indices are shuffled, not records, so the shuffle sees the whole split: such a
    task has `shuffle_buffer_size=None`.
    """

    def __init__(
        self, records: MakeRecords, splits: Mapping[str, int], *, name: str = ""
    ):
        """Makes the source.

        Args:
          records: makes the sequence; of `config.input`, only `image_size` is sure
            to be there.
          splits: name -> number of records, unless config.input changes it.
          name: sources of different names shuffle differently. (A mixture gives
            its seed to all tasks, which would show each record once per task.)
        """
        self._records = records
        self._name, self._salt = name, zlib.crc32(name.encode())
        super().__init__(splits=tuple(splits), num_input_examples=dict(splits))

    def records(self, split: str) -> Records:
        """Returns the records of a split, as `config.input` wants them."""
        return self._records(split, {"image_size": 64} | dict(_OPTIONS.get()))

    def num_input_examples(self, split: str) -> int:
        return len(self.records(split))

    def make_dataset(
        self, split: str, shuffle: bool, seed: int | None, shard: seqio.ShardInfo
    ) -> tf.data.Dataset:
        number = self.num_input_examples(split)
        # The same as the procedural loader's, so that both augment alike.
        stream = zlib.crc32(f"{seed or 0}/{self._name}".encode())
        indices = tf.data.Dataset.range(number).map(
            lambda index: (index, tf.constant(-1, tf.int64))
        )
        if shuffle and _OPTIONS.get():  # a training input of ours, which never ends
            indices = _shuffled_forever(number, (seed or 0) + self._salt)
        elif shuffle:
            indices = indices.shuffle(number, seed, reshuffle_each_iteration=True)
        return indices.shard(shard.num_shards, shard.index).map(
            lambda index, epoch: {
                "split": split,
                "index": index,
                "epoch": epoch,
                "seed": stream,
            }
        )


def _shuffled_forever(number: int, seed: int) -> tf.data.Dataset:
    """Returns 0 to `number` - 1 again and again, each time in another order, with
    the number of the epoch.

    `Dataset.shuffle` would do, but an iterator's checkpoint would hold its buffer,
    that is the whole split for each task of a mixture: megabytes that take seconds
    to read. Here it holds a counter.
    """

    def permute(step):
        epoch = step // number
        index = tf.random.experimental.index_shuffle(  # pyright: ignore
            step % number, seed=tf.stack([seed, epoch]), max_index=number - 1
        )
        return index, epoch

    return tf.data.Dataset.range(1 << 62).map(permute)


class TFExampleSource(seqio.FileDataSource):
    """`seqio.TFExampleDataSource`, safe on damaged records.

    TensorFlow puts a record that it cannot parse into its error message; bytes that are
    no text then end the process (2.21). Here such a record is a ValueError.
    """

    def __init__(
        self,
        split_to_filepattern: Mapping[str, str | Sequence[str]],
        feature_description: Mapping[str, Any],
        num_input_examples: Mapping[str, int] | None = None,
    ):
        """Makes the source; the arguments are those of seqio's."""

        def read_file(path):
            return tf.data.TFRecordDataset(path).map(
                lambda data: parse_example(data, feature_description)
            )

        super().__init__(
            read_file_fn=read_file,
            split_to_filepattern=split_to_filepattern,
            num_input_examples=num_input_examples,
        )


def parse_example(data: tf.Tensor, description: Mapping[str, Any]) -> dict:
    """Parses a serialised `tf.train.Example`, as `tf.io.parse_single_example` does."""
    # What Python has read and written again, TensorFlow's own parser takes.
    checked = tf.numpy_function(_rewrite_example, [data], tf.string, stateful=False)
    checked.set_shape([])
    return tf.io.parse_single_example(checked, dict(description))


def _rewrite_example(data: bytes) -> bytes:
    try:
        return tf.train.Example.FromString(data).SerializeToString()
    except DecodeError:
        raise ValueError(
            f"expected a tf.train.Example, got {len(data)} bytes that do not parse as "
            "one; write the file again"
        ) from None


def read_records(records: MakeRecords, targets: Sequence[str]):
    """Makes the preprocessor that turns what `RecordSource` yields into records.

    Args:
      records: makes the sequence.
      targets: whose label fields to keep.

    Returns:
      A preprocessor, to `uid`, `image`, `prompt` and the label fields as tensors.
    """
    fields = _fields(targets)

    def preprocess(dataset, sequence_length):
        options = dict(_OPTIONS.get()) | {"image_size": sequence_length["image"]}
        augmentation = Augmentation.from_options(options)
        of_split = functools.cache(lambda split: records(split.decode(), options))

        def read(split, index, epoch, seed):
            record = of_split(split)[int(index)]
            if epoch >= 0:
                record = augmentation(record, int(seed), int(index), int(epoch))
            if lacks := {"image", "prompt"} - set(record):
                raise ValueError(f"record {index} of {split!r} has no {lacks}")
            values = (record.get(name, missing) for name, _, _, missing in fields)
            # A text goes as an object: numpy's own strings would have to be ASCII.
            return [
                np.asarray(
                    value.encode() if isinstance(value, str) else value,
                    object if dtype == "str" else dtype,
                )
                for value, (_, dtype, _, _) in zip(values, fields, strict=True)
            ]

        specs = {name: (_tensor(dtype), shape) for name, dtype, shape, _ in fields}
        return map_python(dataset, read, ("split", "index", "epoch", "seed"), specs)

    return preprocess


class AskFor:
    """The last preprocessor of a task: from record tensors to task features.

    An element holds `uid`, `prompt` (strings), `image` uint8[H, W, 3] and the label
    fields of the targets: maps float32[H, W], scores float32[], word labels
    int[num_words]. An element that lacks a label holds a map of size 0, a score of
    NaN or word labels of -1.
    """

    def __init__(self, targets: Sequence[str], *, augment: bool | None = None):
        """Says what to ask.

        Args:
          targets: the targets that each example answers.
          augment: whether the target is written into the prompt; by default where
            there is one target.
        """
        self.targets = tuple(row.name for row in select(targets))
        self.augment = len(self.targets) == 1 if augment is None else augment

    def __call__(self, dataset, sequence_length):
        names = [name for name, *_ in _fields(self.targets)]
        given = dataset.element_spec
        absent = [name for name in ("uid", "image", "prompt") if name not in given]
        if absent:
            raise ValueError(
                f"AskFor({self.targets}) needs the fields {absent}; its elements have "
                f"{sorted(given)}"
            )
        names = [name for name in names if name in given]
        options = _OPTIONS.get()
        maker = features.FeatureMaker(
            vocabulary=vocabulary.load(options.get("vocabulary", "scenes")),
            image_size=sequence_length["image"],
            text_length=sequence_length["inputs"],
            target_length=sequence_length["targets"],
            prompts=options.get("prompts", "whole"),
        )

        def ask(*values):
            record = {
                name: value.decode() if isinstance(value, bytes) else value
                for name, value in zip(names, values, strict=True)
            }
            example = maker.make(record, self.targets, augment=self.augment)
            return [
                np.char.encode(value, "utf-8") if value.dtype.kind == "U" else value
                for value in example.values()
            ]

        specs = {
            name: (_tensor(dtype), [None] * rank)
            for name, (dtype, rank) in features.FEATURES.items()
        }
        return map_python(dataset, ask, names, specs)


def add_task(
    name: str,
    targets: Sequence[str],
    records: MakeRecords,
    splits: Mapping[str, int],
    *,
    augment: bool | None = None,
    order: str = "",
) -> seqio.Task:
    """Registers a task over records that Python makes.

    Args:
      name: of the task.
      targets: as `AskFor` takes them.
      records, splits: as `RecordSource` takes them.
      augment: as `AskFor` takes it.
      order: what the order is drawn from, see `rahf.input.registry.Task`.
    """
    records = functools.partial(_records_for, targets, records)
    return seqio.TaskRegistry.add(
        name,
        source=RecordSource(records, splits, name=order or name),
        preprocessors=[
            read_records(records, targets),
            AskFor(targets, augment=augment),
        ],
        output_features=OUTPUT_FEATURES,
        shuffle_buffer_size=None,
    )


def _records_for(
    targets: Sequence[str],
    records: MakeRecords,
    split: str,
    options: Mapping[str, Any],
) -> Records:
    """Makes records and checks that they can answer the task's targets."""
    found = records(split, options)
    if isinstance(found, RatedImages):
        check_targets(found.targets, targets)
    return found


def _fields(targets: Sequence[str]) -> list[tuple[str, str, list, Any]]:
    """Returns name, dtype, shape and missing value of each field of a record."""
    fields = {
        "uid": ("str", [], ""),
        "image": ("uint8", [None, None, 3], None),
        "prompt": ("str", [], None),
    }
    for row in select(targets):
        if row.field not in fields:
            fields[row.field] = _LABELS[row.kind]
    return [(name, *rest) for name, rest in fields.items()]


def _tensor(dtype: str) -> tf.DType:
    return tf.string if dtype == "str" else tf.as_dtype(dtype)


class _Calls:
    """Counts the calls of Python functions from TensorFlow's threads."""

    def __init__(self):
        self.begun = self.ended = 0

    def counted(self, function):
        @functools.wraps(function)
        def call(*values):
            self.begun += 1
            try:
                return function(*values)
            finally:
                self.ended += 1

        return call


_CALLS = _Calls()


def wait_until_idle(quiet_seconds: float = 0.1, most_seconds: float = 30.0) -> None:
    """Returns once no dataset calls Python any more, its buffers being full.

    TensorFlow destroys an iterator with Python's global lock held, and waits for
    its threads; a thread that waits for the lock then waits forever. So whoever
    drops an iterator that has not ended calls this first.
    """
    until = time.monotonic() + most_seconds
    begun = -1
    while begun != _CALLS.begun or begun != _CALLS.ended:
        if time.monotonic() > until:
            return
        begun = _CALLS.begun
        time.sleep(quiet_seconds)


def map_python(dataset, function, names, specs, *, parallel: int = 2):
    """Maps elements through a Python function, in order.

    Args:
      dataset: of dicts.
      function: takes the elements' `names` as arrays, returns one array for each
        of `specs`.
      names: keys of the elements.
      specs: key of the result -> (dtype, shape).
      parallel: how many elements at a time.
    """

    called = _CALLS.counted(function)

    def call(element):
        dtypes = [dtype for dtype, _ in specs.values()]
        values = tf.numpy_function(
            called, [element[name] for name in names], dtypes, stateful=False
        )
        for value, (_, shape) in zip(values, specs.values(), strict=True):
            value.set_shape(shape)
        return dict(zip(specs, values, strict=True))

    return dataset.map(call, num_parallel_calls=parallel, deterministic=True)
