"""Augments training records: crops and flips of image and maps, colours of the image.

The seed, the record and the epoch determine what happens to a record, so a resumed run
and any number of workers see the same.
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

# A mirrored image contradicts a prompt with one of these. Other words that begin with
# them ("leftover") merely prevent a flip.
_SIDED = re.compile(r"(?<![a-z])(left|right)|clockwise", re.IGNORECASE)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Random changes of training records; none by default.

    Attributes:
      crop: the least share of height and of width that a crop keeps, in (0, 1]; crops
        have the image's aspect ratio and any position. 1 = no crop.
      flip: whether to mirror half of the images, except where the prompt mentions left
        or right.
      colour: brightness, contrast and saturation are each changed by a factor in
        [1 - colour, 1 + colour]; in [0, 1).
      size: side of the examples, 0 if unknown. A larger image is resized before its
        colours change, which gives the model the same at a fraction of the work.
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
                f"config.input.augment has no option {', '.join(unknown)}; it has "
                f"{', '.join(known)}"
            )
        found = cls(**given, size=options.get("image_size", 0))
        if not 0 < found.crop <= 1:
            raise ValueError(
                f"config.input.augment.crop={found.crop} must be in (0, 1]: the share "
                "of each side that a crop keeps"
            )
        if not 0 <= found.colour < 1:
            raise ValueError(
                f"config.input.augment.colour={found.colour} must be in [0, 1)"
            )
        return found

    def __call__(
        self, record: Mapping[str, Any], seed: int, index: int, epoch: int
    ) -> Mapping[str, Any]:
        """Augments a record.

        Args:
          record: `image` uint8[H, W, 3], `prompt`, and maps [h, w] of any size.
          seed: the seed of the task.
          index: the index of the record.
          epoch: how often the record has been seen before.

        Returns:
          A record with the same fields and types; crops are smaller, and so is an image
          over `size` whose colours change. Maps are cropped like the image, to within
          half a pixel of the map.
        """
        if dataclasses.replace(self, size=0) == Augmentation():
            return record
        dice = Dice("augment", seed, index, epoch)
        # Always drawn, so that one option does not change the effect of another.
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
        if mirror and may_mirror(str(record["prompt"])):
            for name in ("image", *fields):
                changed[name] = np.ascontiguousarray(changed[name][:, ::-1])
        if self.colour:
            image = changed["image"]
            if 0 < self.size < min(image.shape[:2]):
                image = images.resize(image, (self.size, self.size))
            changed["image"] = _recolour(image, factors)
        return changed


def may_mirror(prompt: str) -> bool:
    """Whether a mirrored picture still shows what a prompt says of sides."""
    return not _SIDED.search(prompt)


def _map_fields() -> list[str]:
    """Returns the record fields of all heatmap targets, including users' own."""
    return [row.field for row in targets.rows() if row.kind is Kind.HEATMAP]


def _crop(array: np.ndarray, box: tuple[float, float, float, float]) -> np.ndarray:
    """Cuts a box, (top, left, bottom, right) as shares of height and width."""
    height, width = array.shape[:2]
    if not array.size:  # an unknown map
        return array
    top, left, bottom, right = box
    rows = _span(top, bottom, height)
    columns = _span(left, right, width)
    return np.ascontiguousarray(array[rows, columns])


def _span(start: float, end: float, size: int) -> slice:
    first = min(round(start * size), size - 1)
    return slice(first, max(first + 1, round(end * size)))


def _recolour(image: np.ndarray, factors: list[float]) -> np.ndarray:
    """Changes brightness, contrast and saturation by factors, in this order."""
    changed = Image.fromarray(image)
    steps = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
    for enhance, factor in zip(steps, factors, strict=True):
        changed = enhance(changed).enhance(factor)
    return np.asarray(changed)
