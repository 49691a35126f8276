"""Any rated images as records: a table of images, prompts and opinion scores.

`config.input.rated_images` holds the `Options`. The tasks `rated_images_<target>`
and `rated_images_multihead` are registered in `rahf.input.grain_loader`.
"""

import collections
import dataclasses
import functools
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from absl import logging

from rahf import images
from rahf import targets as table
from rahf.datasets import splits
from rahf.datasets.files import parquet
from rahf.datasets.files.image_table import Table, read_table
from rahf.targets import Kind

#: The targets that tasks are registered for.
TARGETS = ("plausibility", "alignment", "aesthetics", "overall")

_OPTION = "config.input.rated_images."

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_MAPPING = re.compile(rf"(.+):({_NUMBER})-({_NUMBER})->(\w+)")
# What people leave in a cell that has no number, in lower case.
_MISSING = {"", "na", "n/a", "nan", "none", "null", "-", "?"}


@dataclasses.dataclass(frozen=True)
class Rating:
    """A column of opinions and the target that it teaches.

    Attributes:
      column: of the table.
      worst, best: the ends of its scale; worst may be the larger number.
      target: name of a score in `rahf.targets`.
    """

    column: str
    worst: float
    best: float
    target: str

    @classmethod
    def parse(cls, text: str) -> "Rating":
        """Reads `mos_quality:1-5->overall`.

        Raises:
          ValueError: it has another form, or the target is no score.
        """
        match = _MAPPING.fullmatch(text.strip())
        if not match:
            raise ValueError(
                "config.input.rated_images.targets: expected column:worst-best->target,"
                f" such as mos_quality:1-5->overall, got {text.strip()!r}"
            )
        column, worst, best, target = match.groups()
        if table.get(target).kind is not Kind.SCORE:
            raise ValueError(
                f"config.input.rated_images.targets: {target!r} is a "
                f"{table.get(target).kind.value}; a column of numbers can teach scores"
            )
        if float(worst) == float(best):
            raise ValueError(
                f"config.input.rated_images.targets: the scale of {text.strip()!r} "
                "has no width"
            )
        return cls(column.strip(), float(worst), float(best), target)

    def score(self, cell: Any, where: str) -> float:
        """Returns a cell as a score in [0, 1], NaN where it is empty.

        Raises:
          ValueError: it is no number, or one off the scale.
        """
        if cell is None or (isinstance(cell, str) and cell.strip().lower() in _MISSING):
            return float("nan")
        try:
            if isinstance(cell, bool):
                raise TypeError
            value = float(cell)
        except (TypeError, ValueError):
            raise ValueError(f"{where}: expected a number, got {cell!r}") from None
        low, high = sorted((self.worst, self.best))
        # NaN is how Parquet and pandas write an empty cell. Means of answers may
        # miss an end by a rounding error.
        if not np.isnan(value) and not low - 1e-6 <= value <= high + 1e-6:
            raise ValueError(
                f"{where}: expected a number from {low:g} to {high:g}, got {cell!r}; "
                "the scale stands in config.input.rated_images.targets"
            )
        return float(np.clip((value - self.worst) / (self.best - self.worst), 0, 1))


@dataclasses.dataclass(frozen=True)
class Options:
    """`config.input.rated_images`.

    Attributes:
      path: a .csv, .tsv or .parquet file, or a folder of Parquet files.
      targets: `column:worst-best->target`, several separated by commas.
      image: the column of images: paths or encoded bytes.
      folder: what paths of images are relative to; "" = the table's folder.
      prompt: the column of prompts; "" = there are none.
      group: the column whose equal cells stay on one side; "" = the prompt, or the
        image where there is none.
      split: the column of official splits; `<file>` = each file's name up to its
        first "-"; "" = cut by `seed`.
      dev_share, test_share: of the groups.
      seed: of the cut.
      folds, fold: k parts of the groups, and which is the test split; 0 = none.
    """

    path: str = ""
    targets: str = ""
    image: str = "image"
    folder: str = ""
    prompt: str = "prompt"
    group: str = ""
    split: str = ""
    dev_share: float = 0.1
    test_share: float = 0.1
    seed: int = 0
    folds: int = 0
    fold: int = 0

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> "Options":
        """Reads them from `config.input`.

        Raises:
          ValueError: there is no path or no target, or an option is unknown.
        """
        given = dict(options.get("rated_images") or {})
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := set(given) - known:
            raise ValueError(
                f"config.input.rated_images has no {', '.join(sorted(unknown))}; "
                f"it has {', '.join(sorted(known))}"
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
        """Returns what is mapped to what.

        Raises:
          ValueError: a mapping is malformed, or two teach the same target.
        """
        ratings = tuple(Rating.parse(part) for part in self.targets.split(","))
        names = collections.Counter(rating.target for rating in ratings)
        if twice := [name for name, number in names.items() if number > 1]:
            raise ValueError(
                f"config.input.rated_images.targets: two columns for {twice[0]!r}"
            )
        return ratings


class RatedImages(Sequence[dict[str, Any]]):
    """The records of one split: `uid`, `image`, `prompt` and the scores it has.

    A score whose cell is empty is a field that is not there. Images are read when a
    record is asked for, and resized to `image_size` at once: nothing in such a
    record depends on where in the image something is.
    """

    def __init__(self, rated: "_Rated", rows: np.ndarray, image_size: int):
        """Takes rows of a table; see `make_records` for the usual way here."""
        self._size = (image_size, image_size)
        self._rows, self._column = rows, rated.options.image
        # What a worker process is sent is this split's part alone.
        self._table = dataclasses.replace(rated.table, columns={})
        self._folder = rated.folder
        self._uids = [rated.uids[row] for row in rows]
        self._prompts = [rated.prompts[row] for row in rows]
        self._scores = {name: values[rows] for name, values in rated.scores.items()}

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        image = images.resize(self._image(int(self._rows[index])), self._size)
        record: dict[str, Any] = {
            "uid": self._uids[index],
            "image": image,
            "prompt": self._prompts[index],
        }
        for field, values in self._scores.items():
            if not np.isnan(values[index]):
                record[field] = float(values[index])
        return record

    def _image(self, row: int) -> np.ndarray:
        cell, where = self._table.images[row], self._table.where(row, self._column)
        try:
            if isinstance(cell, bytes):
                return images.read_image(cell)
            if isinstance(cell, str):
                return images.read_image(self._folder / cell)
        except images.ImageError as error:
            raise images.ImageError(
                where, "an image", f"this: {error}", "or take the row out"
            ) from error
        raise images.ImageError(
            where, "a path or encoded bytes", repr(cell)[:60], "fill or drop the row"
        )


def make_records(
    split: str, options: Mapping[str, Any], *, wanted: Sequence[str] = TARGETS
) -> RatedImages:
    """Returns the records of a split, as `config.input` wants them.

    Args:
      split: "train", "dev" or "test".
      options: `image_size`, and `Options` in `rated_images`.
      wanted: targets of which at least one must have a column.

    Raises:
      ValueError: the table or an option is wrong, naming file, line and column.
    """
    chosen = Options.of(options)
    if split not in splits.SPLITS:
        raise ValueError(
            f"rated images have no split {split!r}; known: {', '.join(splits.SPLITS)}"
        )
    mapped = [rating.target for rating in chosen.ratings()]
    if not set(mapped) & set(wanted):
        raise ValueError(
            f"the task asks for {', '.join(wanted)}, but config.input.rated_images."
            f"targets has columns for {', '.join(mapped)} only"
        )
    path = pathlib.Path(chosen.path)
    shards = parquet.find_shards(path)
    # Tasks of a mixture, and every evaluation, ask for the same table again.
    changed = tuple(shard.stat().st_mtime_ns for shard in shards)
    rated = _read(chosen, changed)
    rows = np.flatnonzero(rated.places == split)
    return RatedImages(rated, rows, options["image_size"])


@dataclasses.dataclass(frozen=True)
class _Rated:
    """A whole table, read and checked."""

    options: Options
    table: Table
    folder: pathlib.Path
    uids: list[str]
    prompts: list[str]
    scores: dict[str, np.ndarray]  # record field -> float64[rows], NaN = missing
    places: np.ndarray  # the split of each row


@functools.lru_cache(2)
def _read(options: Options, changed: tuple[int, ...]) -> _Rated:
    del changed  # times of the files, part of the cache's key
    ratings = options.ratings()
    columns = [rating.column for rating in ratings]
    columns += [c for c in (options.prompt, options.group, options.split) if c]
    found = read_table(options.path, options.image, list(dict.fromkeys(columns)))
    scores = {
        table.get(rating.target).field: np.array(
            [
                rating.score(cell, found.where(row, rating.column))
                for row, cell in enumerate(found.columns[rating.column])
            ]
        )
        for rating in ratings
    }
    unrated = int(np.isnan(list(scores.values())).all(axis=0).sum())
    if unrated == len(found):
        raise ValueError(f"{found.path}: {', '.join(columns)}: no row holds a number")
    if unrated:
        logging.warning(
            "%s: %d of %d rows hold no rating and teach nothing",
            found.path,
            unrated,
            len(found),
        )
    path = pathlib.Path(options.path)
    own = path if path.is_dir() else path.parent
    uids = _uids(found)
    prompts = _texts(found, options.prompt) if options.prompt else [""] * len(found)
    return _Rated(
        options=options,
        table=found,
        folder=pathlib.Path(options.folder) if options.folder else own,
        uids=uids,
        prompts=prompts,
        scores=scores,
        places=_places(options, found, prompts),
    )


def _texts(found: Table, column: str) -> list[str]:
    texts = []
    for row, cell in enumerate(found.columns[column]):
        if cell is not None and not isinstance(cell, str):
            raise ValueError(
                f"{found.where(row, column)}: expected text, got {cell!r:.60}"
            )
        texts.append(cell or "")
    return texts


def _uids(found: Table) -> list[str]:
    """Returns names that tell rows apart: the image's path, or file and row."""
    seen: collections.Counter[str] = collections.Counter()
    uids = []
    for row, name in enumerate(_image_names(found)):
        seen[name] += 1
        repeated = f" (row {row})" if seen[name] > 1 else ""
        uids.append(f"{name}{repeated}")
    return uids


def _image_names(found: Table) -> list[str]:
    if isinstance(found.images, list):
        return [
            cell or f"{pathlib.Path(file).name}:{number}"
            for cell, (file, number) in zip(found.images, found.places, strict=True)
        ]
    # The cells are bytes, perhaps terabytes of them.
    return [f"{pathlib.Path(file).name}:{number}" for file, number in found.places]


def _places(options: Options, found: Table, prompts: list[str]) -> np.ndarray:
    """Returns the split of each row."""
    # Rows that name no group are together where they show the same image.
    names = _image_names(found)
    if options.group:
        given = ["" if c is None else str(c) for c in found.columns[options.group]]
        groups = [group or name for group, name in zip(given, names, strict=True)]
    else:
        groups = list(map(splits.name_group, prompts, names))
    if not options.split:
        return splits.cut(
            groups,
            seed=options.seed,
            dev_share=options.dev_share,
            test_share=options.test_share,
            folds=options.folds,
            fold=options.fold,
            option=_OPTION,
        )
    if options.folds:
        raise ValueError(
            "config.input.rated_images: choose either split, the official one, or folds"
        )
    official = []
    for row, cell in enumerate(found.columns[options.split]):
        place = splits.NAMES.get(str(cell).strip().lower())
        if place is None:
            raise ValueError(
                f"{found.where(row, options.split)}: expected one of "
                f"{', '.join(splits.NAMES)}, got {cell!r}"
            )
        official.append(place)
    if cut_apart := splits.straddling(groups, official):
        message = (
            f"{found.path}: the official splits cut {len(cut_apart)} groups apart, "
            f"such as {cut_apart[0][:80]!r}"
        )
        if options.group:
            raise ValueError(
                f"{message}; leave config.input.rated_images.group or split empty"
            )
        logging.warning("%s", message)
    return splits.keep_official(
        official,
        groups,
        seed=options.seed,
        dev_share=options.dev_share,
        option=_OPTION,
    )
