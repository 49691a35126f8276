"""What a device holds at each moment: arrays, from where made to where last read."""

import collections
import dataclasses

#: Mesh axis -> the dimension that is split along it.
Split = dict[str, int]


@dataclasses.dataclass(eq=False)
class Array:
    """An array of one device.

    Attributes:
      size: bytes.
      split: how it is split.
      roots: the held arrays that it is made of when it is read; None if held itself.
      whole: the held array that this one is a part of.
      gradient: whether it becomes part of a new state.
      reduced: whether a reduction has read it.
      sole: whether it is a product that has one reader.
      summed: mesh axes along which devices have parts of a sum.
      born, last: when it was made and last read.
    """

    size: float
    split: Split
    roots: tuple["Array", ...] | None = None
    whole: "Array | None" = None
    gradient: bool = False
    reduced: bool = False
    sole: bool = False
    summed: frozenset[str] = frozenset()
    born: int = 0
    last: int = 0


class Liveness:
    """What is held at each moment of one function or loop body."""

    def __init__(self):
        self.clock, self._held = 0, {}
        self._extra = collections.defaultdict(float)
        self._extra_gradients = collections.defaultdict(float)

    def hold(self, array: Array) -> None:
        array.roots, array.born, array.last = None, self.clock, self.clock
        self._held[array] = None

    def touch(self, array: Array) -> None:
        """Records that an array, or the one that it is a part of, is read now."""
        for held in (array, array.whole):
            if held is not None:
                held.last = self.clock

    def merge(self, array: Array, into: Array) -> None:
        """Records that an array was never held: another is, that was made of it."""
        self._held.pop(array, None)
        array.whole = into

    def extra(self, size: float, gradients: float = 0.0) -> None:
        """Something that is needed at this moment only, and gradients that it has."""
        self._extra[self.clock] += size
        self._extra_gradients[self.clock] += gradients

    def peak(self) -> tuple[float, float]:
        """Returns the most bytes held at a moment, and those of gradients among them."""
        changes = collections.defaultdict(float)
        for array in self._held:
            changes[array.born] += array.size
            changes[array.last + 1] -= array.size
        now, most, when = 0.0, 0.0, 0
        for moment in range(self.clock + 1):
            now += changes[moment]
            if now + self._extra[moment] > most:
                most, when = now + self._extra[moment], moment
        alive = (a for a in self._held if a.gradient and a.born <= when <= a.last)
        gradients = sum(array.size for array in alive)
        return most, gradients + self._extra_gradients[when]
