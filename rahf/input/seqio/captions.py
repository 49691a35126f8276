"""Captioning tasks for seqio, from shards, tables or TFDS.

There is one source for all of them, because `config.input` selects the one to read and
a task sees it only when its dataset is built.
"""

import threading
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import seqio
import tensorflow as tf
import tensorflow_datasets as tfds

from rahf.datasets import captions
from rahf.datasets.files.tar_shards import Sample, Shards, read_shard
from rahf.datasets.splits import SPLITS
from rahf.input.seqio import python_map
from rahf.input.seqio import tasks as seqio_tasks
from rahf.input.seqio.source import OwnOrderSource
from rahf.input.shard_stream import order_of, read_sample

# An encoded sample, as tensors.
_SAMPLE = {
    "uid": (tf.string, []),
    "encoded": (tf.string, []),
    "prompt": (tf.string, []),
    "fault": (tf.string, []),
}


class CaptionSource(OwnOrderSource):
    """A source of encoded samples, which `config.input.<dataset>` names."""

    def __init__(self, dataset: str = "captions"):
        self.dataset = dataset
        super().__init__(splits=SPLITS)

    def num_input_examples(self, split: str) -> int | None:  # pyright: ignore
        source = captions.find_source(split, seqio_tasks.options(), self.dataset)
        return len(source) if isinstance(source, captions.CaptionTable) else None

    def make_dataset(
        self, split: str, shuffle: bool, seed: int | None, shard: seqio.ShardInfo
    ) -> tf.data.Dataset:
        options = seqio_tasks.options()
        own: Mapping[str, Any] = options.get(self.dataset) or {}
        source = captions.find_source(split, options, self.dataset)
        seed = seed or 0
        if isinstance(source, Shards):
            dataset = _read_shards(source, shuffle, seed, shard)
        elif isinstance(source, captions.TfdsName):
            dataset = _read_tfds(source, own, shuffle, seed, shard)
        else:
            dataset = _read_table(source, shuffle, seed, shard)
        window = own.get("window", Shards.window)
        if shuffle and window > 1:
            dataset = dataset.shuffle(window, seed, reshuffle_each_iteration=True)
        return dataset


def add_task(name: str = "captions", dataset: str = "captions") -> seqio.Task:
    """Registers a captioning task over `config.input.<dataset>`."""
    return seqio.TaskRegistry.add(
        name,
        # seqio's type is int, but its code accepts None for unknown.
        source=CaptionSource(dataset),  # pyright: ignore[reportArgumentType]
        preprocessors=[_decode, seqio_tasks.AskFor(("caption",))],
        output_features=seqio_tasks.OUTPUT_FEATURES,
        shuffle_buffer_size=None,
    )


def _decode(dataset: tf.data.Dataset) -> tf.data.Dataset:
    def read(uid, encoded, prompt, fault):
        sample = Sample(
            uid.decode(), 0, 0, encoded, prompt.decode("utf-8"), fault.decode()
        )
        record = read_sample(sample)
        return [uid, record["image"], prompt]

    specs = {
        "uid": (tf.string, []),
        "image": (tf.uint8, [None, None, 3]),
        "prompt": (tf.string, []),
    }
    return python_map.map_python(dataset, read, tuple(_SAMPLE), specs)


def _tensors(sample: Sample) -> list[Any]:
    texts = (sample.uid, sample.caption, sample.fault)
    uid, caption, fault = (np.asarray(text.encode()) for text in texts)
    # As an object, because numpy's own bytes drop zeros at the end.
    return [uid, np.asarray(sample.image, object), caption, fault]


def _read_table(table, shuffle: bool, seed: int, shard) -> tf.data.Dataset:
    dataset = tf.data.Dataset.range(len(table)).shard(shard.num_shards, shard.index)
    if shuffle:
        dataset = dataset.shuffle(len(table), seed, reshuffle_each_iteration=True)
    return python_map.map_python(
        dataset.map(lambda index: {"index": index}),
        lambda index: _tensors(table.sample(int(index))),
        ("index",),
        _SAMPLE,
    )


def _read_shards(shards: Shards, shuffle: bool, seed: int, shard) -> tf.data.Dataset:
    """Interleaves pieces of shards.

    A position is a few counters, which TensorFlow saves; `_Pieces` finds the sample at
    that position.
    """
    order, cycle = order_of(
        shards, seed, shard_index=shard.index, shard_count=shard.num_shards
    )
    pieces = _Pieces(order if shuffle else [(url, 0, 1) for url in shards.urls])
    number = (1 << 62) if shuffle else len(shards.urls)

    def samples(piece):
        numbers = tf.data.Dataset.range(1 << 62)
        found = python_map.map_python(
            numbers.map(lambda number: {"piece": piece, "number": number}),
            pieces.read,
            ("piece", "number"),
            {"found": (tf.bool, [])} | _SAMPLE,
            parallel=1,
        )
        found = found.take_while(lambda element: element["found"])
        return found.map(lambda element: {name: element[name] for name in _SAMPLE})

    return tf.data.Dataset.range(number).interleave(
        samples, cycle_length=cycle if shuffle else 1, block_length=1
    )


class _Pieces:
    """Finds samples by (index of a piece in the order, number in it)."""

    def __init__(self, order):
        self._order, self._lock = order, threading.Lock()
        self._open: dict[int, tuple[int, Iterator[Sample]]] = {}

    def read(self, piece, number) -> list[Any]:
        piece, number = int(piece), int(number)
        with self._lock:
            position, samples = self._open.pop(piece, (-1, iter(())))
            if position != number:
                samples = self._from(piece, number)
            sample = next(samples, None)
            if sample is not None:
                self._open[piece] = number + 1, samples
        if sample is None and number == 0:
            sample = Sample(
                f"piece {piece}", 0, -1, fault="no samples: there are too many readers"
            )
        found = np.asarray(sample is not None)
        return [found, *_tensors(sample or Sample("", 0, 0))]

    def _from(self, piece: int, number: int) -> Iterator[Sample]:
        url, part, parts = self._order[piece]
        first = part + number * parts
        return read_shard(url, wanted=lambda n: n >= first and (n - first) % parts == 0)


def _read_tfds(source, own, shuffle: bool, seed: int, shard) -> tf.data.Dataset:
    """Reads a TFDS dataset; an image with several captions is repeated with each."""
    image, caption = own.get("image", "image"), own.get("caption", "caption")
    folder = own.get("data_dir") or None
    try:
        name = source.name
        if ":" not in name:  # seqio needs a version; use the newest
            name = f"{name}:{tfds.builder(name, data_dir=folder).version}"
        reader = seqio.TfdsDataSource(
            name,
            tfds_data_dir=folder,
            splits={"it": source.split},
            decoders={image: tfds.decode.SkipDecoding()},
        )
        by_files = len(reader.list_shards("it")) >= shard.num_shards
        dataset = reader.get_dataset(
            "it", shuffle=shuffle, seed=seed, shard_info=shard if by_files else None
        )
    except (ValueError, tfds.core.DatasetNotFoundError) as error:
        raise ValueError(f"tfds:{source.name}@{source.split}: {error}") from error
    if not by_files:
        dataset = dataset.shard(shard.num_shards, shard.index)

    def find(element, path):
        for name in path.split("/"):
            if not isinstance(element, Mapping) or name not in element:
                raise ValueError(
                    f"tfds:{source.name} has no feature {path!r} (config.input."
                    "captions.image and .caption name them); it has "
                    f"{dataset.element_spec}"
                )
            element = element[name]
        return element

    def encode(number, element):
        texts = tf.reshape(find(element, caption), [-1])
        uid = tf.strings.format("{}/{}", (source.name, number))
        return tf.data.Dataset.from_tensor_slices(texts).map(
            lambda text: {
                "uid": uid,
                "encoded": find(element, image),
                "prompt": text,
                "fault": "",
            }
        )

    # Numbered within this process, so that uids are unique in its evaluation.
    return dataset.enumerate().flat_map(encode)
