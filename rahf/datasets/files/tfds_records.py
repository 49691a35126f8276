"""Writes and reads records as TFDS datasets, and reads tfrecord label files.

A dataset holds each record twice: as tfrecord, which `tfds.load` reads with
TensorFlow, and as array_record, which `tfds.data_source` reads by index without it.
TFDS chooses the one it needs. Writing needs TensorFlow.
"""

import contextlib
import functools
import io
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from rahf import extras, targets
from rahf.datasets.files.dataset_folder import DatasetFolder
from rahf.targets import Kind

with extras.needing("train", "a dataset in TFDS's layout"):
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core import file_adapters
    from tensorflow_datasets.core import writer as tfds_writer

#: With images of 200 kB, a shard has some hundred megabytes.
RECORDS_PER_SHARD = 1024
# TFDS 4.9.10 cannot make a tf.data.Dataset of array_record.
_STREAMED, _BY_INDEX = "tfrecord", "array_record"
# An unknown map is stored as a black one, of RichHF-18K's size.
_MAP_SIDE = 512


def make_features() -> tfds.features.FeaturesDict:
    """Returns the TFDS features of a record with the seven kinds of feedback.

    Images are stored as the given bytes. `masked` names the label fields of a record
    that are not known, because a tensor cannot be left out.
    """
    kinds = {
        Kind.HEATMAP: lambda: tfds.features.Image(shape=(None, None, 1)),
        Kind.SCORE: lambda: tfds.features.Scalar(np.float32),
        Kind.WORDS: lambda: tfds.features.Tensor(shape=(None,), dtype=np.int8),
    }
    labels = {row.field: kinds[row.kind]() for row in targets.select(targets.FEEDBACK)}
    return tfds.features.FeaturesDict(
        {
            "uid": tfds.features.Text(),
            "filename": tfds.features.Text(),
            "image": tfds.features.Image(),
            "prompt": tfds.features.Text(),
            **labels,
            "masked": tfds.features.Sequence(tfds.features.Text()),
        }
    )


def complete(record: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a record with every field of `make_features`.

    Args:
      record: `uid`, `filename`, `image` and `prompt`, and the known labels; image and
        maps are encoded.

    Returns:
      The same, with a black map, NaN or no words for each missing label, and the
      names of these labels in `masked`.
    """
    missing = [
        row for row in targets.select(targets.FEEDBACK) if record.get(row.field) is None
    ]
    blanks = {row.field: _BLANKS[row.kind]() for row in missing}
    return {**record, **blanks, "masked": [row.field for row in missing]}


@functools.cache
def _black_map() -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (_MAP_SIDE, _MAP_SIDE)).save(buffer, "PNG")
    return buffer.getvalue()


_BLANKS: dict[Kind, Callable[[], Any]] = {
    Kind.HEATMAP: _black_map,
    Kind.SCORE: lambda: float("nan"),
    Kind.WORDS: lambda: np.zeros(0, np.int8),
}


def write(
    output: DatasetFolder,
    *,
    description: str,
    splits: Sequence[str],
    records: Iterable[tuple[str, Mapping[str, Any]]],
) -> dict[str, int]:
    """Writes a dataset in the order of its records, one at a time.

    Args:
      output: where to write; the files go to its staging folder.
      description: a description for readers.
      splits: the names of the splits.
      records: pairs `(split, record)`, records as `complete` takes them.

    Returns:
      split -> number of records, without empty splits.
    """
    target = output.staging / output.name / output.version
    target.mkdir(parents=True)
    writers = []
    for file_format in (_BY_INDEX, _STREAMED):
        info = tfds.core.DatasetInfo(
            builder=tfds.core.DatasetIdentity(
                name=output.name,
                version=tfds.core.Version(output.version),
                data_dir=str(target),
                module_name="",
            ),
            description=description,
            features=make_features(),
            alternative_file_formats=() if file_format == _BY_INDEX else (_BY_INDEX,),
        )
        writers.append(
            tfds.core.SequentialWriter(info, RECORDS_PER_SHARD, file_format=file_format)
        )
    counts = dict.fromkeys(splits, 0)
    records = iter(records)
    # Each call rewrites the metadata, so write a few records at a time.
    while part := list(itertools.islice(records, 16)):
        for split in dict.fromkeys(split for split, _ in part):
            some = [complete(record) for of, record in part if of == split]
            for writer in writers:
                if not counts[split]:
                    writer.initialize_splits([split])
                writer.add_examples({split: some})
            counts[split] += len(some)
    counts = {split: number for split, number in counts.items() if number}
    for writer in writers:  # the last one's metadata is kept
        writer.close_splits(list(counts))
    return counts


def write_with_beam(
    output: DatasetFolder,
    *,
    description: str,
    make_splits: Callable[[Any], Mapping[str, Any]],
    runner: str,
    options: Any,
) -> dict[str, int]:
    """Writes a dataset with an Apache Beam pipeline, shuffled by key.

    Args:
      output, description: as in `write`.
      make_splits: maps the pipeline to {split: PCollection of `(key, record)`},
        records as `complete` returns them.
      runner: the Beam runner, such as "DirectRunner".
      options: apache_beam's `PipelineOptions`.

    Returns:
      split -> number of records.
    """

    class Builder(tfds.dataset_builders.AdhocBuilder, skip_registration=True):
        # TFDS 4.9.10 looks for it with importlib_resources, which it does not require.
        code_path = None

        def _info(self):
            info = super()._info()
            info.add_alternative_file_format(_BY_INDEX)
            return info

        def _example_writer(self):
            formats = map(file_adapters.FileFormat, (_STREAMED, _BY_INDEX))
            return tfds_writer.MultiOutputExampleWriter(
                [tfds_writer.ExampleWriter(file_format) for file_format in formats]
            )

        def _split_generators(self, dl_manager, pipeline):  # pyright: ignore
            del dl_manager
            return make_splits(pipeline)

    builder = Builder(
        name=output.name,
        version=output.version,
        description=description,
        features=make_features(),
        split_datasets={},
        data_dir=output.staging,
        file_format=_STREAMED,
    )
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(
            beam_runner=runner, beam_options=options
        )
    )
    return {name: info.num_examples for name, info in builder.info.splits.items()}


class Source:
    """One split of a dataset on disk, by index, with images still encoded."""

    def __init__(
        self, name: str, split: str, data_dir: str, *, option: str, remedy: str
    ):
        """Opens the split.

        Args:
          name: the name of the dataset.
          split: the name of the split.
          data_dir: the data directory that holds the dataset; "" is TFDS's default.
          option: the config option of `data_dir`, for error messages.
          remedy: what to do if the dataset does not exist, for error messages.

        Raises:
          ValueError: the dataset or split does not exist.
        """
        try:
            builder: Any = tfds.builder(name, data_dir=data_dir or None)
        except tfds.core.DatasetNotFoundError as error:
            where = data_dir or "TFDS's default data directory (TFDS_DATA_DIR)"
            raise ValueError(
                f"{option}={data_dir!r}: {where} has no dataset {name!r}; {remedy}"
            ) from error
        if split not in builder.info.splits:
            raise ValueError(
                f"{builder.data_path} has no split {split!r}; it has "
                f"{', '.join(builder.info.splits) or 'none'}"
            )
        encoded = {
            field: tfds.decode.SkipDecoding()  # pyright: ignore
            for field, feature in make_features().items()
            if isinstance(feature, tfds.features.Image)
        }
        self._source = builder.as_data_source(split, decoders=encoded)
        info = builder.info.splits[split]
        #: The number of records in each file, and of bytes in all of them.
        self.sizes = (list(info.shard_lengths), info.num_bytes)

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self._source[index]


def read_examples(path: str) -> Iterator[Any]:
    """Yields the parsed `tf.train.Example`s of a tfrecord file, None for a broken one.

    Raises:
      ValueError: the file is truncated or damaged.
    """
    import tensorflow as tf

    with contextlib.suppress(RuntimeError):  # raised where TensorFlow already runs
        tf.config.set_visible_devices([], "GPU")  # they belong to JAX
    count = 0
    records = tf.data.TFRecordDataset(path).as_numpy_iterator()
    while True:
        try:
            data = next(records)
        except StopIteration:
            return
        except tf.errors.OpError as error:
            raise ValueError(
                f"{path} is damaged after record {count}: {error.message}; download "
                "it again"
            ) from error
        count += 1
        yield parse_example(data)


def parse_example(data: Any) -> Any:
    """Parses a `tf.train.Example`; returns None if the bytes `data` are not one."""
    from google.protobuf.message import DecodeError
    from tensorflow.train import Example  # pyright: ignore

    try:
        return Example.FromString(data)
    except DecodeError:
        return None
