"""Augmentation: image and maps move together, colours change in the image alone.

What happens to a record is decided by the seed, the record and the epoch, so a run
that resumes, or has other workers, sees the same.
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image, ImageEnhance

from rahf import images, targets
from rahf.datasets.scenes.dice import Dice
from rahf.targets import Kind

# A mirrored image contradicts a prompt that has one of these. Words that only begin
# so ("leftover") cost a flip now and then, no more.
_SIDED = re.compile(r"(?<![a-z])(left|right)|clockwise", re.IGNORECASE)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Augmentation:
    """What may happen to a training record; by default nothing.

    Attributes:
      crop: the least share of height and of width that a crop keeps, in (0, 1]; the
        part has the image's aspect and lies anywhere. 1: no crop.
      flip: whether to mirror every other image; never where the prompt names left
        or right.
      colour: the most by which brightness, contrast and saturation change, each by
        a factor in [1 - colour, 1 + colour]; in [0, 1).
      size: side of the examples, 0 if not known. A larger image is resized before
        its colours change: the model sees no more, and it is a fraction of the work.
    """

    crop: float = 1.0
    flip: bool = False
    colour: float = 0.0
    size: int = 0

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> "Augmentation":
        """Reads `augment` and `image_size` of `config.input`.

        Raises:
          ValueError: an unknown or impossible value.
        """
        given = dict(options.get("augment") or {})
        known = ["crop", "flip", "colour"]
        if unknown := sorted(set(given) - set(known)):
            raise ValueError(
                f"config.input.augment has {', '.join(unknown)}; it knows "
                f"{', '.join(known)}"
            )
        made = cls(**given, size=options.get("image_size", 0))
        if not 0 < made.crop <= 1:
            raise ValueError(
                f"config.input.augment.crop={made.crop} must be in (0, 1]: the share "
                "of each side that a crop keeps"
            )
        if not 0 <= made.colour < 1:
            raise ValueError(
                f"config.input.augment.colour={made.colour} must be in [0, 1)"
            )
        return made

    def __call__(
        self, record: Mapping[str, Any], seed: int, index: int, epoch: int
    ) -> Mapping[str, Any]:
        """Augments a record.

        Args:
          record: with `image` uint8[H, W, 3], `prompt`, and maps [h, w] of any size.
          seed: of the task.
          index: of the record.
          epoch: how often it has been seen before.

        Returns:
          A record of the same fields and types; crops are smaller, and so is an image
          over `size` whose colours change. A map's part is the image's, to half a
          pixel of the map.
        """
        if dataclasses.replace(self, size=0) == Augmentation():
            return record
        dice = Dice("augment", seed, index, epoch)
        # Drawn in any case, so that one option does not change what another does.
        share = dice.uniform(self.crop, 1.0)
        left, top = dice.uniform(0, 1 - share), dice.uniform(0, 1 - share)
        mirror = dice.chance(0.5) and self.flip
        factors = [dice.uniform(1 - self.colour, 1 + self.colour) for _ in range(3)]
        changed = dict(record)
        fields = [
            name
            for name in _map_fields()
            if name in record and np.ndim(record[name]) == 2
        ]
        if self.crop < 1:
            box = (top, left, top + share, left + share)
            for name in ("image", *fields):
                changed[name] = _crop(changed[name], box)
        if mirror and not _SIDED.search(str(record["prompt"])):
            for name in ("image", *fields):
                changed[name] = np.ascontiguousarray(changed[name][:, ::-1])
        if self.colour:
            image = changed["image"]
            if 0 < self.size < min(image.shape[:2]):
                image = images.resize(image, (self.size, self.size))
            changed["image"] = _recolour(image, factors)
        return changed


def _map_fields() -> list[str]:
    """Record fields of all heatmap targets, a user's own among them."""
    return [row.field for row in targets.rows() if row.kind is Kind.HEATMAP]


def _crop(array: np.ndarray, box: tuple[float, float, float, float]) -> np.ndarray:
    """Cuts a box, (top, left, bottom, right) as shares of height and width."""
    height, width = array.shape[:2]
    if not array.size:  # a map that is not known
        return array
    top, left, bottom, right = box
    rows = _span(top, bottom, height)
    columns = _span(left, right, width)
    return np.ascontiguousarray(array[rows, columns])


def _span(start: float, end: float, size: int) -> slice:
    first = min(round(start * size), size - 1)
    return slice(first, max(first + 1, round(end * size)))


def _recolour(image: np.ndarray, factors: list[float]) -> np.ndarray:
    """Changes brightness, contrast and saturation by their factors, in this order."""
    changed = Image.fromarray(image)
    steps = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
    for enhance, factor in zip(steps, factors, strict=True):
        changed = enhance(changed).enhance(factor)
    return np.asarray(changed)
