"""Reads predictions of any number of images: scores in memory, the rest left on disk.

For each image about 40 bytes are kept, whatever its line holds: the scores asked for,
the number of its prompt, and where its line is.
"""

import array
import dataclasses
import hashlib
import json
import math
import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import IO, Any

import numpy as np
from absl import logging

from rahf.applications import scored_shards
from rahf.applications.prediction_lines import FILE, same_checkpoint
from rahf.inference import image_places

#: The most lines that a message names.
_SHOWN = 3


@dataclasses.dataclass(frozen=True)
class Predictions:
    """The images of predictions.jsonl or of rahf.bin.score, in the order of the lines.

    Prompts are compared as given, without the spaces at their ends: another case or
    another space within is another prompt, as it is to a generator.

    Attributes:
      files: the files read.
      names: the names of the scores in `scores`.
      scores: float64[N, S], finite.
      prompts: int32[N], the number of each image's prompt, in order of appearance.
      first: int64[N], the first image with the same content (or, in lines without
        `image_sha256`, the same path) and the same prompt; itself if there is none.
      errors: how many images predict could not read.
      left_out: how many lines were left out because of a fault.
      digest: SHA-256 of all lines, in hexadecimal.
    """

    files: tuple[pathlib.Path, ...]
    names: tuple[str, ...]
    scores: np.ndarray
    prompts: np.ndarray
    first: np.ndarray
    errors: int
    left_out: int
    digest: str
    _file_of: np.ndarray  # uint32[N]
    _offsets: np.ndarray  # int64[N], bytes, or rows of a Parquet file

    def __len__(self) -> int:
        return len(self.prompts)

    @property
    def distinct(self) -> np.ndarray:
        """bool[N], False for all but the first of equal images of a prompt."""
        return self.first == np.arange(len(self))

    def rows(self, numbers: Iterable[int] | np.ndarray) -> Iterator[dict[str, Any]]:
        """Yields the lines of these images, read again.

        Paths of `image`, `heatmaps`, `overlays` and `sheet` are made absolute, `id` is
        text, and `prompt` has no spaces at its ends.

        Raises:
          ValueError: a file was changed since it was read.
        """
        opened: dict[int, Any] = {}
        position = -1, 0  # the file read last, and where in it
        try:
            for number in numbers:
                which, offset = int(self._file_of[number]), int(self._offsets[number])
                path = self.files[which]
                if scored_shards.is_scored(path):
                    if which not in opened:
                        _close_some(opened)
                        opened[which] = scored_shards.ScoredShard(path)
                    line = opened[which].line(offset)
                    yield line | {"prompt": line["prompt"].strip()}
                    continue
                if which not in opened:
                    _close_some(opened)
                    opened[which] = path.open("rb")
                if position != (which, offset):  # seeking empties the file's buffer
                    opened[which].seek(offset)
                line = opened[which].readline()
                position = which, offset + len(line)
                try:
                    yield _resolved(json.loads(line), self.files[which].parent)
                except (ValueError, KeyError, TypeError, AttributeError) as error:
                    raise ValueError(
                        f"{self.files[which]} has changed since it was read; wait until "
                        "nothing writes to it, and run the same command again"
                    ) from error
        finally:
            _close_some(opened, 0)

    def row(self, number: int) -> dict[str, Any]:
        """Returns the line of one image; see `rows`."""
        return next(self.rows([number]))


def _close_some(opened: dict[int, Any], most: int = 32) -> None:
    """Closes the files opened first, so that others may be; Parquet files hold rows."""
    while len(opened) >= max(most, 1) or (opened and not most):
        opened.pop(next(iter(opened))).__exit__(None, None, None)


def _resolved(row: dict[str, Any], folder: pathlib.Path) -> dict[str, Any]:
    row |= {
        "id": _id(row),
        "image": image_places.absolute(row["image"], folder),
        "prompt": row["prompt"].strip(),
    }
    for field in ("heatmaps", "overlays"):
        paths = (row.get(field) or {}).items()
        row[field] = {n: image_places.absolute(path, folder) for n, path in paths}
    if "sheet" in row:
        row["sheet"] = image_places.absolute(row["sheet"], folder)
    return row


def _id(row: Mapping[str, Any]) -> str:
    given = row.get("id")
    return pathlib.PurePath(row["image"]).stem if given is None else str(given)


def read_predictions(
    sources: Sequence[str | os.PathLike],
    names: Sequence[str] = (),
    *,
    on_error: str = "fail",
    chosen: bool = False,
) -> Predictions:
    """Reads what rahf.bin.predict or score wrote, or lines with the same fields.

    A line needs `image` (a path, relative to the file's folder), `prompt` and
    `scores`; without an `id` it gets the image's file name. Images that predict could
    not read have a line with `error`; they are counted.

    Args:
      sources: files of JSON lines, Parquet files of rahf.bin.score, folders or globs
        of them.
      names: the scores to keep.
      on_error: "fail" to raise where a line lacks a score, has one that is not finite,
        or is cut in half at the end of a file; "skip" to leave such lines out.
      chosen: whether to read only the lines with `"chosen": true` of a manifest.

    Raises:
      ValueError: a file does not exist or has no image, a line is malformed, or the
        lines are from more than one checkpoint; the message names file and line.
    """
    if not sources:
        raise ValueError("expected predictions.jsonl or a folder of it, got no path")
    found = [scored_shards.find_files(source, FILE) for source in sources]
    each = {os.path.realpath(path): path for group in found for path in group}
    files = tuple(each.values())  # a file that is named twice counts once
    reader = _Reader(files, tuple(dict.fromkeys(names)), on_error, chosen)
    for index, path in enumerate(files):
        try:
            if scored_shards.is_scored(path):
                with scored_shards.ScoredShard(path) as shard:
                    reader.read_scored(index, path, shard)
                continue
            with path.open("rb") as file:
                reader.read(index, path, file)
        except OSError as error:
            why = error.strerror or error
            raise ValueError(f"{path}: cannot be read ({why})") from error
    return reader.finish()


class _Reader:
    """Collects what is kept of each line."""

    def __init__(
        self,
        files: tuple[pathlib.Path, ...],
        names: tuple[str, ...],
        on_error: str,
        chosen: bool,
    ):
        self._files = files
        self._names, self._on_error, self._chosen = names, on_error, chosen
        self._scores, self._offsets = array.array("d"), array.array("q")
        self._file_of = array.array("I")
        self._prompts, self._images = bytearray(), bytearray()
        self._errors, self._problems, self._left_out = 0, [], 0
        self._digest = hashlib.sha256()
        self._made_by: tuple[str, dict] | None = None  # place and row of the first line

    def read(self, index: int, path: pathlib.Path, file: IO[bytes]) -> None:
        offset = 0
        for number, line in enumerate(file, 1):
            place, start = f"{path}, line {number}", offset
            offset += len(line)
            self._digest.update(line)
            if not line.strip():
                continue
            row = self._parse(place, line)
            if row is not None:
                self._keep(place, index, start, row)

    def read_scored(
        self, index: int, path: pathlib.Path, shard: scored_shards.ScoredShard
    ) -> None:
        self._digest.update(shard.digest())
        for number, row in enumerate(shard.lines()):
            self._keep(f"{path}, row {number}", index, number, row)

    def _keep(self, place: str, index: int, start: int, row: dict) -> None:
        if self._chosen and row.get("chosen") is not True:
            return
        self._check_checkpoint(place, row)
        if "error" in row:
            self._errors += 1
            return
        values = self._values(place, row)
        if values is None:
            return
        self._scores.extend(values)
        self._offsets.append(start)
        self._file_of.append(index)
        prompt = row["prompt"].strip().encode("utf-8", "surrogatepass")
        folder = self._files[index].parent
        same = row.get("image_sha256") or image_places.absolute(row["image"], folder)
        key = os.fsencode(same) + b"\0" + prompt
        self._prompts += hashlib.blake2b(prompt, digest_size=16).digest()
        self._images += hashlib.blake2b(key, digest_size=16).digest()

    def _parse(self, place: str, line: bytes) -> dict | None:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            if line.endswith(b"\n"):
                raise ValueError(f"{place}: not valid JSON ({error})") from error
            self._fault(
                f"{place}: the last line is cut in half; run rahf.bin.predict again to "
                "finish the file"
            )
            return None
        fields = ("image", "prompt")
        if not isinstance(row, dict) or not all(
            isinstance(row.get(name), str) for name in fields
        ):
            raise ValueError(
                f'{place}: expected {{"id": ..., "image": path, "prompt": text, '
                f'"scores": {{...}}}}, got {line[:60]!r}'
            )
        return row

    def _values(self, place: str, row: dict) -> list[float] | None:
        scores = row.get("scores")
        if not isinstance(scores, dict):
            raise ValueError(  # noqa: TRY004  the file is at fault, not the caller
                f"{place}: field 'scores' must be {{name: number}}, got {scores!r:.60}"
            )
        values = []
        for name in self._names:
            value = scores.get(name)
            if (
                isinstance(value, int | float)
                and not isinstance(value, bool)
                and math.isfinite(value)
            ):
                values.append(value)
                continue
            came = f"it has {', '.join(scores) or 'none'}"
            if name in scores:
                came = f"expected a finite number, got {value!r:.60}"
            self._fault(f"{place}, id {_id(row)!r}: score {name!r}: {came}")
            return None
        return values

    def _fault(self, text: str) -> None:
        if self._on_error != "skip":
            raise ValueError(f"{text}; or leave such lines out with --on_error=skip")
        self._left_out += 1
        self._problems = [*self._problems, text][:_SHOWN]

    def _check_checkpoint(self, place: str, row: dict) -> None:
        """Scores of two checkpoints do not share a scale, so they are not compared."""
        if self._made_by is None:
            self._made_by = (
                place,
                {name: row.get(name) for name in ("checkpoint", "checkpoint_digest")},
            )
        first, other = self._made_by
        if not same_checkpoint(other, row):
            raise ValueError(
                f"{place}: expected predictions of checkpoint {other['checkpoint']!r} "
                f"as in {first}, got one of {row.get('checkpoint')!r}"
                + (
                    " with other parameters"
                    if other["checkpoint"] == row.get("checkpoint")
                    else ""
                )
                + "; scores of different checkpoints cannot be compared"
            )

    def finish(self) -> Predictions:
        files = self._files
        listed = ", ".join(map(str, files[:_SHOWN])) + ", ..." * bool(files[_SHOWN:])
        if not self._offsets:
            only = ' with "chosen": true' if self._chosen else ""
            more = f"; {self._problems[0]}" if self._problems else ""
            raise ValueError(
                f"{listed}: no predicted images{only} ({self._errors} could not be "
                f"read by predict, {self._left_out} were left out{more})"
            )
        if self._problems:
            logging.warning(
                "%d lines were left out: %s", self._left_out, "; ".join(self._problems)
            )
        scores = np.frombuffer(self._scores, np.float64)
        if not self._names:
            scores = np.zeros(0)
        number = len(self._offsets)
        return Predictions(
            files=files,
            names=self._names,
            scores=scores.reshape(number, len(self._names)),
            prompts=_numbered(_first(self._prompts)),
            first=_first(self._images),
            errors=self._errors,
            left_out=self._left_out,
            digest=self._digest.hexdigest(),
            _file_of=np.frombuffer(self._file_of, np.uint32),
            _offsets=np.frombuffer(self._offsets, np.int64),
        )


def _first(digests: bytearray) -> np.ndarray:
    """Returns for each digest of 16 bytes the index of the first equal one."""
    low, high = np.frombuffer(digests, np.uint64).reshape(-1, 2).T
    order = np.lexsort((high, low))  # stable: equal ones stay in order
    new = np.ones(len(order), bool)
    new[1:] = (low[order][1:] != low[order][:-1]) | (
        high[order][1:] != high[order][:-1]
    )
    first = np.empty(len(order), np.int64)
    first[order] = order[new][np.cumsum(new) - 1]
    return first


def _numbered(first: np.ndarray) -> np.ndarray:
    """Numbers groups from 0, in order of appearance, as int32."""
    is_new = first == np.arange(len(first))
    return (np.cumsum(is_new) - 1)[first].astype(np.int32)


def json_line(row: Mapping[str, Any]) -> bytes:
    """Returns a row as a line of JSON, whatever bytes its paths consist of."""
    text = json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"
    return text.encode("utf-8", "backslashreplace")


def why_unusable(row: Mapping[str, Any]) -> str:
    """Returns why a line's image is not the one predicted; "" if it is."""
    return image_places.why_unusable(row["image"], dict(row))
