"""The model's stages as prediction runs them: in parts that a CPU's cache holds."""

from collections.abc import Callable
from typing import Any

import jax

from rahf.models.rahf import RAHF, Encoding

#: How many bytes of an encoder's widest activations a part has. Matrix products are at
#: full speed from some hundreds of rows on; with more rows, only more spills from the
#: cache.
PART_BYTES = 16 << 20


class Stages:
    """The stages of a model with its parameters, to be traced.

    On one CPU device, a batch goes through each of them in parts. With ViT-B/16 and
    T5-base at 384 pixels, an image in a batch of 8 then costs what it costs alone.
    """

    def __init__(self, model: RAHF, params):
        self._model, self._variables = model, {"params": params}
        vit = model.config.vit
        self._tokens = vit.grid**2 + int(vit.class_token)
        self._token_bytes = 4 * max(vit.mlp_dim, model.config.t5.mlp_dim)

    def encode_image(self, images):
        """uint8[B, S, S, 3] -> dtype[B, N, D]."""
        encode = lambda images: self._apply(images, method=RAHF.encode_image)
        return in_parts(encode, self._bytes(0), images)

    def encode(self, image_tokens, inputs) -> Encoding:
        """dtype[B, N, D] and int32[B, L] -> the encoding."""

        def encode(image_tokens, inputs):
            found: Any = self._apply(image_tokens, inputs, method=RAHF.encode)
            return found.feature_map, found.memory, found.memory_mask

        row = self._bytes(inputs.shape[1])
        return Encoding(*in_parts(encode, row, image_tokens, inputs))

    def heatmaps(self, encoding: Encoding, size: int) -> dict[str, jax.Array]:
        """Every heatmap target: float32[B, size, size]."""
        c = self._model.config
        row = self._bytes(0)
        if c.heatmap_head.name == "paper":  # a quarter of the width, at full resolution
            row = size * size * (c.heatmap_head.width or c.t5.embed_dim)
        return self._heads(row, encoding, size, method=RAHF.heatmaps)

    def scores(self, encoding: Encoding) -> dict[str, jax.Array]:
        """Every score target: float32[B]."""
        return self._heads(self._bytes(0), encoding, method=RAHF.scores)

    def _heads(self, row_bytes: int, encoding, *args, method):
        def read(*encoding):
            return self._apply(Encoding(*encoding), *args, method=method)

        parts = encoding.feature_map, encoding.memory, encoding.memory_mask
        return in_parts(read, row_bytes, *parts)

    def _bytes(self, text_length: int) -> int:
        return (self._tokens + text_length) * self._token_bytes

    def _apply(self, *args, method):
        return self._model.apply(self._variables, *args, method=method)


def in_parts(function: Callable, row_bytes: int, *arrays):
    """Applies a function of a batch, on one CPU device to one part after the other.

    Args:
      function: (*arrays) -> a tree of arrays, each with the batch first.
      row_bytes: what a row of the batch needs of `PART_BYTES`.
      *arrays: arrays of equal length B.

    Returns:
      What the function returns.
    """
    batch = len(arrays[0])
    most = max(PART_BYTES // row_bytes, 1)
    rows = next(n for n in range(min(most, batch), 0, -1) if batch % n == 0)
    if rows == batch or jax.device_count() > 1:
        return function(*arrays)

    def parts(*arrays):
        split = [x.reshape(-1, rows, *x.shape[1:]) for x in arrays]
        found = jax.lax.map(lambda part: function(*part), split)
        return jax.tree.map(lambda x: x.reshape(batch, *x.shape[2:]), found)

    return jax.lax.platform_dependent(*arrays, cpu=parts, default=function)
