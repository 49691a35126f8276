"""Sources and preprocessors for seqio tasks.

The last preprocessor of a task is `AskFor(targets)`, which takes elements with the
fields of a record; its output features are `OUTPUT_FEATURES` (docs/tasks.md).
"""

import contextlib
import contextvars
import functools
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
from rahf.input.seqio import python_map
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
# before any config is read, and pass only lengths to their preprocessors.
_OPTIONS: contextvars.ContextVar[Mapping[str, Any]] = contextvars.ContextVar(
    "rahf_input_options", default=types.MappingProxyType({})
)

# Kind -> dtype, shape and the value of a missing label, as a tensor cannot be absent.
_LABELS = {
    Kind.HEATMAP: ("float32", [None, None], np.zeros((0, 0), np.float32)),
    Kind.SCORE: ("float32", [], np.float32("nan")),
    Kind.WORDS: ("int8", [None], np.full(1, -1, np.int8)),
    Kind.CAPTION: ("str", [], ""),
    Kind.WORD_PRESENCE: ("int8", [None], np.full(1, -1, np.int8)),
    Kind.SOFT_WORDS: ("float32", [None], np.full(1, -1, np.float32)),
}


@contextlib.contextmanager
def building(config) -> Iterator[None]:
    """Makes `config.input` visible to datasets that are built inside."""
    token = _OPTIONS.set(config.input.to_dict())
    try:
        yield
    finally:
        _OPTIONS.reset(token)


def options() -> Mapping[str, Any]:
    """Returns `config.input` of the loader that is building, or an empty mapping."""
    return _OPTIONS.get()


class RecordSource(OwnOrderSource):
    """A source over `(split, config.input) -> sequence of records`.

    It yields `{"split", "index", "epoch", "seed"}`, from which the preprocessor
    `read_records` makes the record; epoch -1 means without augmentation. Indices are
    shuffled instead of records, over the whole split, so such a task has
    `shuffle_buffer_size=None`.
    """

    def __init__(
        self, records: MakeRecords, splits: Mapping[str, int], *, name: str = ""
    ):
        """Makes the source.

        Args:
          records: makes the sequence; only `config.input.image_size` is always given.
          splits: name -> number of records, unless config.input changes it.
          name: a name; sources with different names shuffle differently. (All tasks of
            a mixture have the same seed, and would otherwise have the same order.)
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
        # The same seed as in the grain loader, so that both augment alike.
        stream = zlib.crc32(f"{seed or 0}/{self._name}".encode())
        indices = tf.data.Dataset.range(number).map(
            lambda index: (index, tf.constant(-1, tf.int64))
        )
        if shuffle and _OPTIONS.get():  # one of our training inputs, which never end
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
    """Returns 0 to `number` - 1 endlessly, in another order each epoch, with the epoch.

    With `Dataset.shuffle`, an iterator's checkpoint would contain its buffer, which is
    the whole split for each task of a mixture: megabytes that take seconds to read.
    Here it contains a counter.
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

    TensorFlow quotes a record that it cannot parse in its error message, and bytes that
    are not text then crash the process (2.21). Here such a record is a ValueError.
    """

    def __init__(
        self,
        split_to_filepattern: Mapping[str, str | Sequence[str]],
        feature_description: Mapping[str, Any],
        num_input_examples: Mapping[str, int] | None = None,
    ):
        """Makes the source; see `seqio.TFExampleDataSource` for the arguments."""

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
    # TensorFlow's parser accepts everything that Python has parsed and serialised.
    checked = tf.numpy_function(_rewrite_example, [data], tf.string, stateful=False)
    checked.set_shape([])
    return tf.io.parse_single_example(checked, dict(description))


def _rewrite_example(data: bytes) -> bytes:
    try:
        return tf.train.Example.FromString(data).SerializeToString()
    except DecodeError:
        raise ValueError(
            f"expected a tf.train.Example, got {len(data)} bytes that cannot be parsed "
            "as one; write the file again"
        ) from None


def read_records(records: MakeRecords, targets: Sequence[str]):
    """Makes the preprocessor that turns elements of `RecordSource` into records.

    Args:
      records: makes the sequence.
      targets: the targets whose label fields to keep.

    Returns:
      A preprocessor whose elements are `uid`, `image`, `prompt` and the label fields.
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
            # Texts are passed as objects because numpy's own must be ASCII.
            return [
                np.asarray(
                    value.encode() if isinstance(value, str) else value,
                    object if dtype == "str" else dtype,
                )
                for value, (_, dtype, _, _) in zip(values, fields, strict=True)
            ]

        specs = {name: (_tensor(dtype), shape) for name, dtype, shape, _ in fields}
        return python_map.map_python(
            dataset, read, ("split", "index", "epoch", "seed"), specs
        )

    return preprocess


class AskFor:
    """The last preprocessor of a task: makes task features from record tensors.

    An element has `uid`, `prompt` (strings), `image` uint8[H, W, 3] and the label
    fields of the targets: maps float32[H, W], scores float32[], word labels
    int[num_words]. A missing label is a map of size 0, a score of NaN or word labels
    of -1.
    """

    def __init__(self, targets: Sequence[str], *, augment: bool | None = None):
        """Sets what to ask for.

        Args:
          targets: the targets of each example.
          augment: whether the prompt names the target; by default if there is one.
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
        return python_map.map_python(dataset, ask, names, specs)


def add_task(
    name: str,
    targets: Sequence[str],
    records: MakeRecords,
    splits: Mapping[str, int],
    *,
    augment: bool | None = None,
    order: str = "",
) -> seqio.Task:
    """Registers a task over records made by Python.

    Args:
      name: the name of the task.
      targets: see `AskFor`.
      records, splits: see `RecordSource`.
      augment: see `AskFor`.
      order: see `rahf.input.registry.Task`.
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
    """Makes records and checks that they have labels for the task's targets."""
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
