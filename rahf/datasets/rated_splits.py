"""Which split each row of a rated table lies in: one side for what belongs together.

Rows belong together by `config.input.rated_images.group`, or else by their prompt, or
else by their picture. Two paths are the same picture where they are the same path once
normalised; encoded pictures where their bytes are equal. Copies of a picture under
different paths are not looked for.
"""

import functools
import hashlib
import math
import os
import pathlib
import unicodedata
from collections.abc import Sequence

import numpy as np
from absl import logging

from rahf.datasets import rank_cut, splits
from rahf.datasets.files.image_table import Table
from rahf.datasets.rated_options import RatedImagesOptions

_OPTION = "config.input.rated_images."


def assign(
    options: RatedImagesOptions,
    table: Table,
    prompts: Sequence[str],
    folder: pathlib.Path,
) -> np.ndarray:
    """Returns the split of each row, an array of strings.

    Args:
      options: how to cut.
      table: the rows; the bytes of pictures are read where nothing else groups them.
      prompts: one a row, "" where there is none.
      folder: what paths of pictures are relative to.

    Raises:
      ValueError: an official split is unknown or cuts the named groups apart, the
        options contradict each other, or as `splits.cut` does.
    """
    if options.cut not in ("hash", "rank"):
        raise ValueError(f"{_OPTION}cut={options.cut!r}; expected 'hash' or 'rank'")
    if options.split and options.folds:
        raise ValueError(
            "config.input.rated_images: choose either split, the official one, or folds"
        )
    if options.cut == "rank":
        groups, cut = _groups_of_ranks(options, table, prompts), rank_cut.cut
    else:
        groups, cut = _groups(options, table, prompts, folder), splits.cut
    if options.split:
        official = _official(options, table, groups)
        places = splits.keep_official(
            official,
            groups,
            seed=options.seed,
            dev_share=options.dev_share,
            option=_OPTION,
            cut=cut,
        )
    else:
        places = cut(
            groups,
            seed=options.seed,
            dev_share=options.dev_share,
            test_share=options.test_share,
            folds=options.folds,
            fold=options.fold,
            option=_OPTION,
        )
    _warn_of_pictures(table, places, folder)
    return places


def picture_name(path: str, folder: str | os.PathLike) -> str:
    """Returns one name for all spellings of a picture's path.

    `x.png`, `./x.png`, `a/../x.png` and, for a table in /data, `/data/x.png` are the
    same. Symbolic links are not followed.
    """
    absolute = os.path.abspath(folder)
    found = os.path.normpath(os.path.join(absolute, path))
    if not os.path.isabs(path) or found.startswith(os.path.join(absolute, "")):
        found = os.path.relpath(found, absolute)  # holds wherever the folder moves
    return unicodedata.normalize("NFC", found)


def _groups(
    options: RatedImagesOptions,
    table: Table,
    prompts: Sequence[str],
    folder: pathlib.Path,
) -> list[str]:
    named = [_text(cell) for cell in table.columns.get(options.group, ())]
    if options.group:
        lacking = named.count("")
        if lacking:
            logging.warning(
                "%s: %d of %d rows have no group in column %r and are grouped by "
                "their pictures",
                table.path,
                lacking,
                len(table),
                options.group,
            )
    else:
        named = [splits.name_group(prompt, "") for prompt in prompts]
    name_of = functools.cache(lambda path: picture_name(path, folder))
    groups = []
    for row, name in enumerate(named):
        path = "" if name else table.paths[row]
        if path is None:  # in the order of rows: each row group is read once
            cell = table.images[row]
            encoded = isinstance(cell, bytes) and cell
            name = hashlib.sha256(encoded).hexdigest() if encoded else f"row {row}"
        groups.append(name or name_of(path))
    return groups


def _text(cell: object) -> str:
    # NaN is how pandas writes an empty cell to Parquet.
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return ""
    return unicodedata.normalize("NFC", " ".join(str(cell).split()))


def _groups_of_ranks(
    options: RatedImagesOptions, table: Table, prompts: Sequence[str]
) -> list[str]:
    """Returns the groups' names as they were when groups were cut by rank."""
    names = table.image_names()
    if not options.group:
        return list(map(rank_cut.name_group, prompts, names))
    given = ["" if c is None else str(c) for c in table.columns[options.group]]
    return [group or name for group, name in zip(given, names, strict=True)]


def _official(
    options: RatedImagesOptions, table: Table, groups: Sequence[str]
) -> list[str]:
    official = []
    for row, cell in enumerate(table.columns[options.split]):
        place = splits.NAMES.get(str(cell).strip().lower())
        if place is None:
            raise ValueError(
                f"{table.where(row, options.split)}: expected one of "
                f"{', '.join(splits.NAMES)}, got {cell!r}"
            )
        official.append(place)
    if cut_apart := splits.straddling(groups, official):
        message = (
            f"{table.path}: the official splits cut {len(cut_apart)} groups apart, "
            f"such as {cut_apart[0][:80]!r}"
        )
        if options.group:
            raise ValueError(
                f"{message}; leave config.input.rated_images.group or split empty"
            )
        logging.warning("%s", message)
    return official


def _warn_of_pictures(table: Table, places: np.ndarray, folder: pathlib.Path) -> None:
    """Says where a picture has several prompts, and those lie in several splits."""
    rows = [row for row, path in enumerate(table.paths) if path]
    name_of = functools.cache(lambda path: picture_name(path, folder))
    names = [name_of(table.paths[row]) for row in rows]
    if apart := splits.straddling(names, places[rows].tolist()):
        logging.warning(
            "%s: %d pictures lie in several splits, such as %r; name a column whose "
            "cells are equal for rows that belong together in %sgroup",
            table.path,
            len(apart),
            apart[0],
            _OPTION,
        )
