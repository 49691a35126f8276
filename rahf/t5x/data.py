"""RAHF's data for T5X: feature converter, datasets, curves.

T5X needs flat batches, so {"targets": {"plausibility": ...}} is passed as
"targets/plausibility", and `nest` restores it inside the model.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import seqio
import tensorflow as tf

from rahf.input.converter import Converter
from rahf.input.features import FEATURES
from rahf.input.registry import import_modules
from rahf.input.seqio import python_map
from rahf.input.seqio import tasks as seqio_tasks
from rahf.weights import matching


class RAHFFeatureConverter(seqio.FeatureConverter):
    """Converts one example to one row of `rahf.input.converter.Converter`'s batch.

    `make_feature_converter` makes the subclass for a config, since T5X constructs
    converters itself. Packing, one of T5X's arguments, is impossible for examples with
    images.
    """

    TASK_FEATURES: Mapping[str, Any] = {
        name: seqio.FeatureConverter.FeatureSpec(
            dtype=tf.string if dtype == "str" else tf.as_dtype(dtype), rank=rank
        )
        for name, (dtype, rank) in FEATURES.items()
    }
    MODEL_FEATURES: Mapping[str, Any]
    converter: Converter
    #: The dtype and shape of each model feature of one example.
    specs: Mapping[str, tuple[str, list[int]]]
    lengths: Mapping[str, int]

    def __init__(self, pack: bool = False, **unused: Any):
        del unused
        if pack:
            raise ValueError(
                "DatasetConfig.pack=True: examples with images cannot be packed; "
                "set it to False"
            )
        super().__init__(pack=False)

    def __call__(self, ds, task_feature_lengths):
        """Converts a dataset; the converter checks dtypes, ranks and lengths."""
        self._check_lengths(task_feature_lengths)
        return self._convert_features(ds, task_feature_lengths)

    def _convert_features(self, ds, task_feature_lengths):
        def convert(*values):
            example = dict(zip(FEATURES, map(np.asarray, values), strict=True))
            return [
                array[0]
                for array in matching.flatten(self.converter([example])).values()
            ]

        specs = {
            name: (tf.as_dtype(dtype), shape)
            for name, (dtype, shape) in self.specs.items()
        }
        return python_map.map_python(ds, convert, list(FEATURES), specs)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Returns the shapes of one example's model features, by name."""
        return {name: tuple(shape) for name, (_, shape) in self.specs.items()}

    def get_model_feature_lengths(self, task_feature_lengths):
        self._check_lengths(task_feature_lengths)
        return {
            name: shape[0] if shape else 1 for name, (_, shape) in self.specs.items()
        }

    def _check_lengths(self, given):
        wrong = {
            name: length
            for name, length in dict(given).items()
            if self.lengths.get(name, length) != length
        }
        if wrong:
            raise ValueError(
                f"TASK_FEATURE_LENGTHS has {wrong}, but the model's config needs "
                f"{ {name: self.lengths[name] for name in wrong} }"
            )


def make_feature_converter(config) -> type[RAHFFeatureConverter]:
    """Makes the class that converts task features to those of a config's model."""
    converter = Converter.from_config(config)
    specs = {
        name: (array.dtype.name, list(array.shape[1:]))
        for name, array in matching.flatten(converter([], 1)).items()
    }
    features = {
        name: seqio.FeatureConverter.FeatureSpec(
            dtype=tf.as_dtype(dtype), rank=len(shape)
        )
        for name, (dtype, shape) in specs.items()
    }
    fields = {
        "MODEL_FEATURES": features,
        "converter": converter,
        "specs": specs,
        "lengths": task_feature_lengths(config),
    }
    return type("ConfiguredFeatureConverter", (RAHFFeatureConverter,), fields)


def task_feature_lengths(config) -> dict[str, int]:
    """Returns T5X's TASK_FEATURE_LENGTHS, from `config.input`."""
    i = config.input
    decoded = ("targets", "prompt", "word_ends", "word_labels")
    lengths = {"image": i.image_size, "inputs": i.text_length}
    return lengths | {name: i.target_length for name in decoded}


def vocabularies(config) -> tuple[seqio.Vocabulary, seqio.Vocabulary]:
    """Returns the task's input and target vocabularies, for T5X to check the model's.

    RAHF's tasks make ids themselves, so these vocabularies pass ids through.
    """
    features = seqio.get_mixture_or_task(config.task.name).output_features
    return features["inputs"].vocabulary, features["targets"].vocabulary


def subtasks(name: str) -> list[seqio.Task]:
    """Returns the tasks of a task or mixture, by its name."""
    return list(seqio.get_subtasks(seqio.get_mixture_or_task(name)))


def enumerate_rows(batch: Mapping[str, Any]) -> tf.data.Dataset:
    """Returns the numbered rows of a nested batch, for T5X's predict functions."""
    rows: Any = matching.flatten(batch)
    return tf.data.Dataset.from_tensor_slices(rows).enumerate()


def write_scalars(folder: str, name: str, step: int, values: Mapping[str, float]):
    """Adds a point to each TensorBoard curve, as T5X's evaluations do."""
    scalars = {key: seqio.metrics.Scalar(value) for key, value in values.items()}
    seqio.TensorBoardLogger(folder)(name, step, scalars, None, None, None)


def serve(config) -> None:
    """Registers the config's tasks, and sets `config.input` as their options.

    T5X builds datasets in several places, so the whole process serves one config.
    """
    import_modules(config)
    seqio_tasks._OPTIONS.set(config.input.to_dict())


def get_dataset(
    cfg,
    shard_id: int,
    num_shards: int,
    feature_converter_cls,
    num_epochs: int | None = None,
    continue_from_last_checkpoint: bool = False,
) -> tf.data.Dataset:
    """Replaces `t5x.utils.get_dataset`, for tasks that never end.

    The order of the data is that of `rahf.input.seqio.loader`: with `config.seed` as
    T5X's seed, both trainers see the same batches. T5X's function would cache small
    datasets in memory, but these never end: each epoch has its own order.
    """
    del continue_from_last_checkpoint  # a saved iterator continues by itself
    if cfg.batch_size % num_shards:
        raise ValueError(
            f"DatasetConfig.batch_size={cfg.batch_size} must be a multiple of {num_shards} "
            f"shards"
        )
    dataset = seqio.get_mixture_or_task(cfg.mixture_or_task_name).get_dataset(
        sequence_length=dict(cfg.task_feature_lengths),
        split=cfg.split,
        shuffle=cfg.shuffle,
        seed=cfg.seed,
        shard_info=seqio.ShardInfo(shard_id, num_shards),
        num_epochs=num_epochs,
        try_in_mem_cache=False,
    )
    dataset = feature_converter_cls(pack=cfg.pack)(dataset, cfg.task_feature_lengths)
    options = tf.data.Options()
    # Mapping through Python keeps no state, so T5X may save the iterator's position.
    options.experimental_external_state_policy = (
        tf.data.experimental.ExternalStatePolicy.IGNORE
    )
    rows = cfg.batch_size // num_shards
    return dataset.batch(rows, drop_remainder=True).with_options(options)


def get_training_eval_datasets(
    cfg, shard_id: int, num_shards: int, eval_steps: int, feature_converter_cls
) -> dict[str, tf.data.Dataset]:
    """Returns a dataset per task, by name, for T5X's evaluation by training loss."""
    provider = seqio.get_mixture_or_task(cfg.mixture_or_task_name)
    return {
        task.name: get_dataset(
            dataclasses.replace(cfg, mixture_or_task_name=task.name, shuffle=False),
            shard_id,
            num_shards,
            feature_converter_cls,
            num_epochs=1,
        ).take(eval_steps)
        for task in seqio.get_subtasks(provider)
    }
