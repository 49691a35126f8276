"""Any rated images as records: a table of images, prompts and opinion scores.

`config.input.rated_images` holds the options, `rahf.datasets.rated_options`. The tasks
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

#: The targets that tasks are registered for.
TARGETS = ("plausibility", "alignment", "aesthetics", "overall")


class RatedImages(Sequence[dict[str, Any]]):
    """The records of one split: `uid`, `image`, `prompt` and the scores it has.

    A score whose cell is empty is a field that is not there. Images are read when a
    record is asked for, and resized to `image_size` at once: nothing in such a
    record depends on where in the image something is.
    """

    def __init__(self, rated: "_Rated", split: str, image_size: int):
        """Takes a split of a table; see `make_records` for the usual way here."""
        rows = np.flatnonzero(rated.places == split)
        self._split, self._size = split, (image_size, image_size)
        #: The targets that the table has a column for.
        self.targets = tuple(rating.target for rating in rated.options.ratings())
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

    def digest(self) -> str:
        """Returns the SHA-256 of the split's rows: names, prompts and scores in order.

        It changes with every row that is added, removed, moved to another split or
        rated anew; not with the pixels of an image.
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
                where, "an image", f"this: {error}", "or take the row out"
            ) from error
        raise images.ImageError(
            where, "a path or encoded bytes", repr(cell)[:60], "fill or drop the row"
        )


def make_records(
    split: str, options: Mapping[str, Any], *, wanted: Sequence[str] | None = None
) -> RatedImages:
    """Returns the records of a split, as `config.input` wants them.

    Args:
      split: "train", "dev" or "test".
      options: `image_size`, and `RatedImagesOptions` in `rated_images`; with `bad_records` of
        "skip", images may be missing.
      wanted: targets of which at least one must have a column; None: any targets.

    Raises:
      ValueError: the table or an option is wrong, naming file, line and column, or
        the split has rows whose image is not there.
    """
    chosen = RatedImagesOptions.from_options(options)
    if split not in splits.SPLITS:
        raise ValueError(
            f"rated images have no split {split!r}; known: {', '.join(splits.SPLITS)}"
        )
    check_targets([rating.target for rating in chosen.ratings()], wanted)
    path = pathlib.Path(chosen.path)
    shards = parquet.find_shards(path)
    # Tasks of a mixture, and every evaluation, ask for the same table again.
    changed = tuple(shard.stat().st_mtime_ns for shard in shards)
    rated = _read(chosen, changed)
    if options.get("bad_records", "fail") == "fail" and split not in rated.complete:
        _check_images(rated, split)
        rated.complete.add(split)
    return RatedImages(rated, split, options["image_size"])


def check_targets(mapped: Sequence[str], wanted: Sequence[str] | None) -> None:
    """Raises ValueError where a table has a column for none of a task's targets."""
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
    places: np.ndarray  # the split of each row
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
        places=rated_splits.assign(options, found, prompts, folder),
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
    """Says once how many cells are empty; raises ValueError where no row is rated."""
    empty = np.isnan(list(scores.values()))
    unrated, columns = int(empty.all(axis=0).sum()), options.targets
    if unrated == len(found):
        raise ValueError(f"{found.path}: {columns}: no row holds a number")
    missing = {
        f"have no number in {rating.column!r}": int(cells.sum())
        for rating, cells in zip(options.ratings(), empty, strict=True)
    }
    if len(empty) > 1:
        missing["hold no rating at all and teach nothing"] = unrated
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
    """Raises ValueError where rows of a split have no image, naming the first."""
    own = set(np.flatnonzero(rated.places == split).tolist())
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
            "add the files, remove the rows, or pass over them with "
            "config.input.bad_records='skip'"
        )


def _names_in(folder: str) -> frozenset[str]:
    """Lists a folder once: asking for each file by itself is slow on shared disks."""
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
    """Returns names that tell rows apart: the image's path, or file and row."""
    seen: collections.Counter[str] = collections.Counter()
    uids = []
    for row, name in enumerate(found.image_names()):
        seen[name] += 1
        repeated = f" (row {row})" if seen[name] > 1 else ""
        uids.append(f"{name}{repeated}")
    return uids
