"""The lines of predictions, in JSON or in the Parquet files of rahf.bin.score."""

import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from rahf import strict_json
from rahf.applications import scored_shards

#: The file that rahf.bin.predict writes into its folder.
FILE = "predictions.jsonl"


def read_lines(
    source: str | os.PathLike, expected: str
) -> Iterator[tuple[str, pathlib.Path, Any]]:
    """Yields (file and line, file, parsed line).

    Args:
      source: a file of JSON lines, a Parquet file, or a folder or glob of either.
      expected: what a line should be, for the error.

    Raises:
      ValueError: there is no such file, or a line is not JSON; names file and line.
    """
    for file in scored_shards.find_files(source, FILE):
        if scored_shards.is_scored(file):
            for place, line in scored_shards.read_lines([file]):
                yield place, file, line
            continue
        try:
            # Only \n ends a line: a prompt may contain U+2028.
            lines = file.read_text("utf-8-sig").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"{file}: cannot be read ({error})") from error
        for number, line in enumerate(lines, 1):
            place = f"{file}, line {number}"
            try:
                if line.strip():
                    yield place, file, strict_json.loads(line)
            except ValueError as error:
                raise ValueError(
                    f"{place}: expected {expected}, got {line[:60]} ({error!r})"
                ) from error


def same_checkpoint(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two lines are of one checkpoint.

    Digests decide if both lines have one of the same kind; otherwise names do.
    """
    digests = [row.get("checkpoint_digest") or "" for row in (one, other)]
    kinds = [digest.partition(":")[0] for digest in digests]
    if kinds[0] and kinds[0] == kinds[1]:
        return digests[0] == digests[1]
    return one.get("checkpoint") == other.get("checkpoint")
