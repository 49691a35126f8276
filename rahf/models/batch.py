"""The model's input: the names, shapes and dtypes of a batch, stated once.

The converter (`rahf.input.converter`) fills such arrays; initialisation and
ahead-of-time compilation make empty ones. numpy only: the input's worker processes
import this.

B batch, S image size, L text length, T target length.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from rahf.targets import Kind, select


class ArraySpec(NamedTuple):
    """The shape and dtype of one array."""

    shape: tuple[int, ...]
    dtype: Any


def batch_spec(
    targets: Sequence[str],
    *,
    batch_size: int,
    image_size: int,
    text_length: int,
    target_length: int,
) -> dict[str, Any]:
    """Returns the specs of a batch's arrays.

    Returns:
      `image` uint8[B, S, S, 3]; `inputs` int32[B, L]; `prompt`, `word_ends` and
      `word_labels` int32[B, T]; `targets`, by name: HEATMAP float32[B, S, S], SCORE
      float32[B], WORDS, CAPTION and WORD_PRESENCE int32[B, T], SOFT_WORDS
      float32[B, T, 3] (`rahf.input.soft_words`), PREFERENCE float32[B, 2]
      (`rahf.input.pairs`); `weights`, by name: float32[B]. Each as an `ArraySpec`.
    """
    pixels = (batch_size, image_size, image_size)
    tokens = ArraySpec((batch_size, target_length), np.int32)
    of_kind = {
        Kind.HEATMAP: ArraySpec(pixels, np.float32),
        Kind.SCORE: ArraySpec((batch_size,), np.float32),
        Kind.WORDS: tokens,
        Kind.CAPTION: tokens,
        Kind.WORD_PRESENCE: tokens,
        Kind.SOFT_WORDS: ArraySpec((batch_size, target_length, 3), np.float32),
        Kind.PREFERENCE: ArraySpec((batch_size, 2), np.float32),
    }
    rows = select(targets)
    return {
        "image": ArraySpec((*pixels, 3), np.uint8),
        "inputs": ArraySpec((batch_size, text_length), np.int32),
        "prompt": tokens,
        "word_ends": tokens,
        "word_labels": tokens,
        "targets": {row.name: of_kind[row.kind] for row in rows},
        "weights": {row.name: ArraySpec((batch_size,), np.float32) for row in rows},
    }


def rows_together(targets: Sequence[str]) -> int:
    """Returns how many consecutive rows of a batch no one may part.

    Two if the batch may hold pairs of images, rows 2k and 2k + 1, and 1 otherwise.

    Args:
      targets: the names of the batch's targets.
    """
    return 2 if select(targets, Kind.PREFERENCE) else 1


def make_arrays(spec: dict[str, Any], zeros=np.zeros) -> dict[str, Any]:
    """Returns the arrays of a `batch_spec`, all zero.

    Args:
      spec: the output of `batch_spec`.
      zeros: `numpy.zeros` or `jax.numpy.zeros`.
    """
    return {
        name: zeros(*value)
        if isinstance(value, ArraySpec)
        else {key: zeros(*each) for key, each in value.items()}
        for name, value in spec.items()
    }


def example_batch(config, batch_size: int = 1) -> dict[str, Any]:
    """Returns a dummy batch in which every example answers every target.

    Args:
      config: the training config.
      batch_size: B.

    Returns:
      jax arrays by name, all zero except `inputs` and `weights`, which are one.
    """
    import jax.numpy as jnp

    i = config.input
    batch = make_arrays(
        batch_spec(
            config.task.targets,
            batch_size=batch_size,
            image_size=i.image_size,
            text_length=i.text_length,
            target_length=i.target_length,
        ),
        jnp.zeros,
    )
    weights = {name: jnp.ones_like(x) for name, x in batch["weights"].items()}
    return batch | {"inputs": jnp.ones_like(batch["inputs"]), "weights": weights}
