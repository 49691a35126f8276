"""Records from a table of images, prompts and opinion scores.

`config.input.rated_images` holds the options (`rahf.datasets.rated_options`). The tasks
`rated_images_<target>` and `rated_images_multihead` are registered in
`rahf.input.grain_loader`.
"""

import collections
import dataclasses
import functools
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from absl import logging

from rahf import images, targets
from rahf.datasets import rated_splits, splits
from rahf.datasets.files import parquet
from rahf.datasets.files.image_table import Table, read_table
from rahf.datasets.rated_options import RatedImagesOptions, Rating
from rahf.datasets.row_digest import digest_rows

#: The targets for which tasks are registered.
TARGETS = ("plausibility", "alignment", "aesthetics", "overall")


class RatedImages(Sequence[dict[str, Any]]):
    """The records of one split: `uid`, `image`, `prompt` and the scores it has.

    A score whose cell is empty is absent from the record. Images are read on demand
    and resized to `image_size` at once, as nothing in such a record depends on
    positions in the image.
    """

    def __init__(self, rated: "_Rated", split: str, image_size: int):
        """Selects one split of a table; usually called by `make_records`."""
        rows = np.flatnonzero(rated.splits == split)
        self._split, self._size = split, (image_size, image_size)
        #: The targets for which the table has a column.
        self.targets = tuple(rating.target for rating in rated.options.ratings())
        self._rows, self._column = rows, rated.options.image
        # Only this split's part is sent to worker processes.
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

    def digest(self) -> str:
        """Returns the SHA-256 of the split's rows: names, prompts and scores in order.

        It changes when a row is added, removed, moved to another split or rated
        again, but not with the pixels of an image.
        """

        def rows() -> Iterator[Sequence[Any]]:
            fields = sorted(self._scores)
            yield [self._split, *fields]
            columns = [self._scores[field].tolist() for field in fields]
            yield from zip(self._uids, self._prompts, *columns, strict=True)

        return digest_rows(rows())

    def _image(self, row: int) -> np.ndarray:
        cell, where = self._table.images[row], self._table.where(row, self._column)
        try:
            if isinstance(cell, bytes):
                return images.read_image(cell)
            if isinstance(cell, str):
                return images.read_image(self._folder / cell)
        except images.ImageError as error:
            raise images.ImageError(
                where, "an image", f"this: {error}", "or remove the row"
            ) from error
        raise images.ImageError(
            where, "a path or encoded bytes", repr(cell)[:60], "fill or remove the row"
        )


def make_records(
    split: str, options: Mapping[str, Any], *, wanted: Sequence[str] | None = None
) -> RatedImages:
    """Returns the records of a split, as configured in `config.input`.

    Args:
      split: "train", "dev" or "test".
      options: `image_size`, and `RatedImagesOptions` under `rated_images`; if
        `bad_records` is "skip", images may be missing.
      wanted: targets, at least one of which must have a column; None accepts any.

    Raises:
      ValueError: the table or an option is wrong (names file, line and column), or
        the image of a row is missing.
    """
    chosen = RatedImagesOptions.from_options(options)
    if split not in splits.SPLITS:
        raise ValueError(
            f"rated images have no split {split!r}; known: {', '.join(splits.SPLITS)}"
        )
    check_targets([rating.target for rating in chosen.ratings()], wanted)
    path = pathlib.Path(chosen.path)
    shards = parquet.find_shards(path)
    # The tasks of a mixture, and every evaluation, request the same table.
    changed = tuple(shard.stat().st_mtime_ns for shard in shards)
    rated = _read(chosen, changed)
    if options.get("bad_records", "fail") == "fail" and split not in rated.complete:
        _check_images(rated, split)
        rated.complete.add(split)
    return RatedImages(rated, split, options["image_size"])


def check_targets(mapped: Sequence[str], wanted: Sequence[str] | None) -> None:
    """Raises ValueError if a table has no column for any of a task's targets."""
    if wanted is not None and not set(mapped) & set(wanted):
        raise ValueError(
            f"the task asks for {', '.join(wanted)}, but config.input.rated_images."
            f"targets has columns for {', '.join(mapped)} only"
        )


@dataclasses.dataclass(frozen=True)
class _Rated:
    """A whole table, read and checked."""

    options: RatedImagesOptions
    table: Table
    folder: pathlib.Path
    uids: list[str]
    prompts: list[str]
    scores: dict[str, np.ndarray]  # record field -> float64[rows], NaN = missing
    splits: np.ndarray  # the split of each row
    complete: set[str]  # the splits whose images were all found


@functools.lru_cache(2)
def _read(options: RatedImagesOptions, changed: tuple[int, ...]) -> _Rated:
    del changed  # times of the files, part of the cache's key
    ratings = options.ratings()
    columns = [rating.column for rating in ratings]
    columns += [c for c in (options.prompt, options.group, options.split) if c]
    found = read_table(options.path, options.image, list(dict.fromkeys(columns)))
    scores = {
        targets.get(rating.target).field: _scores(found, rating) for rating in ratings
    }
    _count_missing(found, options, scores)
    path = pathlib.Path(options.path)
    own = path if path.is_dir() else path.parent
    folder = pathlib.Path(options.folder) if options.folder else own
    prompts = _texts(found, options.prompt) if options.prompt else [""] * len(found)
    return _Rated(
        options=options,
        table=found,
        folder=folder,
        uids=_uids(found),
        prompts=prompts,
        scores=scores,
        splits=rated_splits.assign(options, found, prompts, folder),
        complete=set(),
    )


def _scores(found: Table, rating: Rating) -> np.ndarray:
    """Returns float64[rows], NaN where the cell is empty."""
    scores, mistakes = [], []
    for row, cell in enumerate(found.columns[rating.column]):
        try:
            scores.append(rating.score(cell, found.where(row, rating.column)))
        except ValueError as error:
            mistakes.append(str(error))
    if mistakes:
        more = f" (and {len(mistakes) - 1} more such cells)" if mistakes[1:] else ""
        raise ValueError(f"{mistakes[0]}{more}")
    return np.array(scores)


def _count_missing(
    found: Table, options: RatedImagesOptions, scores: Mapping[str, np.ndarray]
) -> None:
    """Logs how many cells are empty; raises ValueError if no row has a rating."""
    empty = np.isnan(list(scores.values()))
    unrated, columns = int(empty.all(axis=0).sum()), options.targets
    if unrated == len(found):
        raise ValueError(f"{found.path}: {columns}: no row has a number")
    missing = {
        f"have no number in {rating.column!r}": int(cells.sum())
        for rating, cells in zip(options.ratings(), empty, strict=True)
    }
    if len(empty) > 1:
        missing["have no rating at all and are of no use in training"] = unrated
    if options.prompt:
        prompts = found.columns[options.prompt]
        without = sum(not cell or not str(cell).strip() for cell in prompts)
        missing[f"have no prompt in {options.prompt!r}"] = without
    for what, number in missing.items():
        if number:
            logging.warning(
                "%s: %d of %d rows %s", found.path, number, len(found), what
            )


def _check_images(rated: _Rated, split: str) -> None:
    """Raises ValueError if rows of a split have no image, naming the first."""
    own = set(np.flatnonzero(rated.splits == split).tolist())
    missing = {row: "is empty" for row in rated.table.empty if row in own}
    listed = functools.cache(_names_in)
    for row, path in enumerate(rated.table.paths):
        if path and row in own:
            folder, name = os.path.split(os.path.join(rated.folder, path))
            if name not in listed(folder) and not os.path.isfile(rated.folder / path):
                missing[row] = f"{path!r} is not a file in {rated.folder}"
    if missing:
        row = min(missing)
        raise ValueError(
            f"{rated.table.where(row, rated.options.image)}: {missing[row]}; "
            f"{len(missing)} of the {len(own)} rows of split {split!r} have no image: "
            "add the files, remove the rows, or skip them with "
            "config.input.bad_records='skip'"
        )


def _names_in(folder: str) -> frozenset[str]:
    """Lists a folder: one call per file is slow on shared disks."""
    try:
        return frozenset(os.listdir(folder))
    except OSError:
        return frozenset()


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
    """Returns unique names of rows: the image's path, or file and row."""
    seen: collections.Counter[str] = collections.Counter()
    uids = []
    for row, name in enumerate(found.image_names()):
        seen[name] += 1
        repeated = f" (row {row})" if seen[name] > 1 else ""
        uids.append(f"{name}{repeated}")
    return uids
