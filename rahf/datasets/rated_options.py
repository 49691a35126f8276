"""The options `config.input.rated_images`: a table's columns, scales and splits."""

import collections
import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from rahf.targets import Kind, get

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_MAPPING = re.compile(rf"(.+):({_NUMBER})-({_NUMBER})->(\w+)")
# What people write in a cell without a number, in lower case.
_MISSING = {"", "na", "n/a", "nan", "none", "null", "-", "?"}


@dataclasses.dataclass(frozen=True)
class Rating:
    """A column of opinion scores and the target that it provides.

    Attributes:
      column: the column's name in the table.
      worst, best: the ends of its scale; worst may be the larger number.
      target: the name of a score in `rahf.targets`.
    """

    column: str
    worst: float
    best: float
    target: str

    @classmethod
    def parse(cls, text: str) -> "Rating":
        """Reads `mos_quality:1-5->overall`.

        Raises:
          ValueError: the text has another form, or the target is not a score.
        """
        match = _MAPPING.fullmatch(text.strip())
        if not match:
            raise ValueError(
                "config.input.rated_images.targets: expected column:worst-best->target,"
                f" such as mos_quality:1-5->overall, got {text.strip()!r}"
            )
        column, worst, best, target = match.groups()
        if get(target).kind is not Kind.SCORE:
            raise ValueError(
                f"config.input.rated_images.targets: {target!r} is a "
                f"{get(target).kind.value}; a column of numbers can only be a score"
            )
        if float(worst) == float(best):
            raise ValueError(
                "config.input.rated_images.targets: worst and best of "
                f"{text.strip()!r} must differ"
            )
        return cls(column.strip(), float(worst), float(best), target)

    def score(self, cell: Any, where: str) -> float:
        """Returns a cell as a score in [0, 1], or NaN if it is empty.

        Raises:
          ValueError: the cell is not a number, or is off the scale.
        """
        if cell is None or (isinstance(cell, str) and cell.strip().lower() in _MISSING):
            return float("nan")
        try:
            # Python also reads 1_0 as ten.
            if isinstance(cell, bool) or "_" in str(cell):
                raise TypeError
            value = float(cell)
        except (TypeError, ValueError):
            raise ValueError(f"{where}: expected a number, got {cell!r}") from None
        low, high = sorted((self.worst, self.best))
        # Parquet and pandas write an empty cell as NaN. A mean of answers may exceed
        # the scale by a rounding error.
        if not np.isnan(value) and not low - 1e-6 <= value <= high + 1e-6:
            raise ValueError(
                f"{where}: expected a number from {low:g} to {high:g}, got {cell!r}; "
                "config.input.rated_images.targets sets the scale"
            )
        return float(np.clip((value - self.worst) / (self.best - self.worst), 0, 1))


@dataclasses.dataclass(frozen=True)
class RatedImagesOptions:
    """`config.input.rated_images`.

    Attributes:
      path: a .csv, .tsv or .parquet file, or a folder of Parquet files.
      targets: `column:worst-best->target`, several separated by commas.
      image: the column of images: paths or encoded bytes.
      folder: the folder that paths of images are relative to; "" = the table's.
      prompt: the column of prompts; "" = there are none.
      group: the column whose equal cells stay in one split; "" = the prompt, or the
        image if there is none.
      split: the column of official splits; `<file>` = each file's name up to its
        first "-"; "" = split at random by `seed`.
      cut: "hash", see `splits.cut`, or "rank", which configs without this key used.
      dev_share, test_share: shares of the groups.
      seed: the seed of the split.
      folds, fold: the number of folds, 0 for none, and which one is the test split.
    """

    path: str = ""
    targets: str = ""
    image: str = "image"
    folder: str = ""
    prompt: str = "prompt"
    group: str = ""
    split: str = ""
    cut: str = "rank"
    dev_share: float = 0.1
    test_share: float = 0.1
    seed: int = 0
    folds: int = 0
    fold: int = 0

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> "RatedImagesOptions":
        """Reads the options from `config.input`.

        Raises:
          ValueError: the path or the targets are empty, or an option is unknown.
        """
        given = dict(options.get("rated_images") or {})
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := set(given) - known:
            raise ValueError(
                "config.input.rated_images has no option "
                f"{', '.join(sorted(unknown))}; it has {', '.join(sorted(known))}"
            )
        found = cls(**given)
        for name, example in (
            ("path", "ratings/ratings.csv"),
            ("targets", "mos_quality:1-5->overall"),
        ):
            if not getattr(found, name):
                raise ValueError(
                    f"config.input.rated_images.{name} is empty; set it, for example "
                    f"to {example}"
                )
        return found

    def ratings(self) -> tuple[Rating, ...]:
        """Returns the ratings that `targets` describes.

        Raises:
          ValueError: a mapping is malformed, or two have the same target.
        """
        ratings = tuple(Rating.parse(part) for part in self.targets.split(","))
        names = collections.Counter(rating.target for rating in ratings)
        if twice := [name for name, number in names.items() if number > 1]:
            raise ValueError(
                f"config.input.rated_images.targets: two columns for {twice[0]!r}"
            )
        return ratings
