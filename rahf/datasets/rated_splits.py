"""Assigns each row of a rated table to a split, keeping groups together.

Rows are grouped by `config.input.rated_images.group`, or else by their prompt, or else
by their picture. Two paths are the same picture if they are equal once normalised;
encoded pictures are the same if their bytes are equal. Copies of a picture under
different paths are not detected.
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
      options: how to split.
      table: the rows; the bytes of pictures are read if nothing else groups them.
      prompts: one per row, "" if there is none.
      folder: the folder that paths of pictures are relative to.

    Raises:
      ValueError: an official split is unknown or separates a named group, the
        options contradict each other, or `splits.cut` raises.
    """
    if options.cut not in ("hash", "rank"):
        raise ValueError(f"{_OPTION}cut={options.cut!r}; expected 'hash' or 'rank'")
    if options.split and options.folds:
        raise ValueError(
            "config.input.rated_images: set either split (official splits) or folds"
        )
    if options.cut == "rank":
        groups, cut = _groups_of_ranks(options, table, prompts), rank_cut.cut
    else:
        groups, cut = _groups(options, table, prompts, folder), splits.cut
    if options.split:
        official = _official(options, table, groups)
        assigned = splits.keep_official(
            official,
            groups,
            seed=options.seed,
            dev_share=options.dev_share,
            option=_OPTION,
            cut=cut,
        )
    else:
        assigned = cut(
            groups,
            seed=options.seed,
            dev_share=options.dev_share,
            test_share=options.test_share,
            folds=options.folds,
            fold=options.fold,
            option=_OPTION,
        )
    _warn_of_pictures(table, assigned, folder)
    return assigned


def picture_name(path: str, folder: str | os.PathLike) -> str:
    """Returns the same name for every spelling of a picture's path.

    `x.png`, `./x.png`, `a/../x.png` and, for a table in /data, `/data/x.png` are the
    same. Symbolic links are not followed.
    """
    absolute = os.path.abspath(folder)
    found = os.path.normpath(os.path.join(absolute, path))
    if not os.path.isabs(path) or found.startswith(os.path.join(absolute, "")):
        found = os.path.relpath(found, absolute)  # so that the folder may move
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
    # pandas writes an empty cell to Parquet as NaN.
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return ""
    return unicodedata.normalize("NFC", " ".join(str(cell).split()))


def _groups_of_ranks(
    options: RatedImagesOptions, table: Table, prompts: Sequence[str]
) -> list[str]:
    """Returns the groups' names as `rank_cut` expects them."""
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
        split = splits.NAMES.get(str(cell).strip().lower())
        if split is None:
            raise ValueError(
                f"{table.where(row, options.split)}: expected one of "
                f"{', '.join(splits.NAMES)}, got {cell!r}"
            )
        official.append(split)
    if divided := splits.straddling(groups, official):
        message = (
            f"{table.path}: the official splits divide {len(divided)} groups, such as "
            f"{divided[0][:80]!r}"
        )
        if options.group:
            raise ValueError(
                f"{message}; leave config.input.rated_images.group or split empty"
            )
        logging.warning("%s", message)
    return official


def _warn_of_pictures(table: Table, assigned: np.ndarray, folder: pathlib.Path) -> None:
    """Logs a warning if a picture with several prompts is in several splits."""
    rows = [row for row, path in enumerate(table.paths) if path]
    name_of = functools.cache(lambda path: picture_name(path, folder))
    names = [name_of(table.paths[row]) for row in rows]
    if apart := splits.straddling(names, assigned[rows].tolist()):
        logging.warning(
            "%s: %d pictures are in several splits, such as %r; to keep rows together, "
            "name a column with equal cells for them in %sgroup",
            table.path,
            len(apart),
            apart[0],
            _OPTION,
        )
