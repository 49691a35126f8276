"""The prompts of images in a table of their own, for files that have none."""

import os
import pathlib

from rahf.datasets.files.csv_table import StrictReader


def read(path: str | os.PathLike) -> dict[str, str]:
    """Returns the prompt of each image.

    Args:
      path: a CSV or TSV file with the columns image and prompt; others are ignored.

    Raises:
      ValueError: the file cannot be read, is malformed, or has two prompts for an
        image; names the line.
    """
    try:
        reader = StrictReader(path)
    except OSError as error:
        raise ValueError(f"--prompts={path} is unreadable: {error.strerror}") from error
    if not {"image", "prompt"} <= set(reader.columns):
        raise ValueError(
            f"{path}, line 1: expected the columns image and prompt, got "
            f"{', '.join(reader.columns) or 'none'}"
        )
    prompts: dict[str, str] = {}
    for row in reader:
        name, prompt = str(pathlib.PurePath(row["image"])), row["prompt"]
        if prompts.setdefault(name, prompt) != prompt:
            raise ValueError(
                f"{path}, line {reader.line}: field 'prompt': {prompt!r:.60}, but an "
                f"earlier line has {prompts[name]!r:.60} for the same image"
            )
    return prompts
