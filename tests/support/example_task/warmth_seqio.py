"""The same for seqio, where the label is made by a preprocessor (docs/tasks.md)."""

import seqio
import tensorflow as tf

import tasks.scenes
from rahf.datasets.scenes import SPLITS, scenes_records
from rahf.input.seqio import tasks as seqio_tasks
from tests.support.example_task import warmth

assert tasks.scenes and warmth  # imported for what they register


def add_warmth(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Adds the field `warmth_score`, from the image."""

    def add(example):
        channels = tf.reduce_mean(tf.cast(example["image"], tf.float32) / 255, (0, 1))
        return example | {"warmth_score": (1 + channels[0] - channels[2]) / 2}

    return dataset.map(add, num_parallel_calls=2)


seqio.TaskRegistry.add(
    "scenes_warmth",
    source=seqio_tasks.RecordSource(scenes_records, SPLITS),
    preprocessors=[
        seqio_tasks.read_records(scenes_records, ()),
        add_warmth,
        seqio_tasks.AskFor(("warmth",)),
    ],
    output_features=seqio_tasks.OUTPUT_FEATURES,
    shuffle_buffer_size=None,
)
seqio.MixtureRegistry.add(
    "scenes_warm_and_plausible",
    ["scenes_warmth", "scenes_plausibility"],
    default_rate=1.0,
)
