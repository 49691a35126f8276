"""Whether results can be written where a flag says, found out before they are made."""

import os
import pathlib
import tempfile
from collections.abc import Sequence


def check_folder(
    folder: str | os.PathLike, files: Sequence[str] = (), *, flag: str = "--output"
) -> pathlib.Path:
    """Makes a folder and tries to write to it.

    Args:
      folder: where results will go.
      files: the names they will have there.
      flag: that named the folder, for the error.

    Returns:
      The folder.

    Raises:
      ValueError: the folder cannot be made or written to, or a folder has the name of
        one of the files.
    """
    folder = pathlib.Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        for name in files:
            if (folder / name).is_dir():
                raise IsADirectoryError(f"{name} is a folder")
    except OSError as error:
        raise ValueError(
            f"{flag}={folder} cannot be written to: {error.strerror or error}"
        ) from error
    return folder


def check_file(path: str | os.PathLike, *, flag: str = "--output") -> pathlib.Path:
    """Makes the folder of a file and tries to write there; see `check_folder`."""
    path = pathlib.Path(path)
    try:
        check_folder(path.parent, [path.name], flag=flag)
    except ValueError as error:
        reason = str(error).partition(" cannot be written to: ")[2]
        raise ValueError(f"{flag}={path} cannot be written: {reason}") from error
    return path
