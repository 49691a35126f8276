"""Reads finished annotations of other tools into lines of a raters' file."""

import os
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from rahf import durable
from rahf.annotation.formats import cvat, label_studio, rapidata
from rahf.annotation.formats.importing import Import, ImportOptions

_READERS: dict[str, Callable[[pathlib.Path, Import], None]] = {
    "label_studio": label_studio.read_annotations,
    "cvat": cvat.read_annotations,
}
#: The tools whose files are read.
FORMATS = tuple(_READERS)


def import_files(
    *,
    files: Sequence[str],
    form: str,
    output: str,
    options: ImportOptions | None,
    splits: Mapping[str, Any],
) -> str:
    """Writes what other tools exported as a raters' file, or Rapidata's as a dataset.

    Args:
      files: the files.
      form: one of `FORMATS`, or "rapidata", of which there is one file or folder.
      output: the raters' file, or the data directory.
      options: how to read annotations.
      splits: options of `rapidata.write_dataset`.

    Returns:
      What was written, in words.

    Raises:
      ValueError: there are mistakes, or the output cannot be written.
    """
    if form == "rapidata":
        return (
            f"{output}: {rapidata.write_dataset(files[0], output, **splits).summary()}"
        )
    if options is None:
        raise ValueError(f"{form} needs the folder of the images")
    target = durable.check_file(output)
    found = read_files(files, form, options)
    durable.write_text(target, found.to_lines())
    return f"{target}: {found.summary()}"


def read_files(
    paths: Iterable[str | os.PathLike], form: str, options: ImportOptions
) -> Import:
    """Reads files of one tool, such as one for each rater.

    Args:
      paths: the files.
      form: one of `FORMATS`.
      options: how to read them.

    Raises:
      RatingsError: there are mistakes; lists those of the first file with any.
      ValueError: a file is of another kind, there is none, or none has a rating.
    """
    if not options.images.is_dir():
        raise ValueError(f"--images={options.images}: no such folder")
    found = Import(options)
    for path in map(pathlib.Path, paths):
        if not path.is_file():
            raise ValueError(f"{path}: no such file")
        _READERS[form](path, found)
    found.finish()
    if not found.rows:
        raise ValueError(f"no ratings were found: {found.summary()}")
    return found
