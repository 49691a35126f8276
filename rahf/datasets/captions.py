"""Captioned images in common formats: tar shards, a folder with a table, or TFDS.

`config.input.captions` names the source of each split; `find_source` opens it.
"""

import dataclasses
import io
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from rahf import images, strict_json
from rahf.datasets.files.csv_table import SEPARATORS, StrictReader, read_text
from rahf.datasets.files.tar_shards import Sample, Shards, list_shards
from rahf.datasets.row_digest import digest_rows

#: Tables to look for in a folder; `metadata` is the name that the `datasets` library uses.
TABLES = ("captions.csv", "metadata.csv", "metadata.jsonl")
_IMAGE_COLUMNS = ("image", "file_name")
_CAPTION_COLUMNS = ("caption", "text")
_WEIGHTS_COLUMN = "loss_weights"

_EXPECTED = (
    "expected tar shards as img2dataset writes them ('shards/{00000..00099}.tar', a "
    "folder or a glob; local, gs:// or s3://), a folder with captions.csv, or tfds:NAME"
)


@dataclasses.dataclass(frozen=True)
class TfdsName:
    """A dataset of TensorFlow Datasets: `tfds:coco_captions/2014@val[:5000]`.

    Attributes:
      name: the dataset with its config and version, as `tfds.load` takes it.
      split: the split in TFDS's own notation.
    """

    name: str
    split: str


def find_source(
    split: str, options: Mapping[str, Any], dataset: str = "captions"
) -> "Shards | CaptionTable | TfdsName":
    """Returns the source of a split's captions that the config names.

    Args:
      split: "train", "dev" or "test".
      options: `config.input`; its entry `dataset` holds the splits, and optionally
        `window` and `open_shards` (see `Shards`).
      dataset: the key in the options.

    Raises:
      ValueError: no source is named, or it does not exist.
    """
    own = options.get(dataset) or {}
    given = own.get(split)
    key = f"config.input.{dataset}.{split}"
    if not given:
        raise ValueError(f"{key} is not set; {_EXPECTED}")
    patterns = [given] if isinstance(given, str) else list(given)
    single = [p for p in patterns if p.startswith("tfds:") or _find_table(p)]
    if single and len(patterns) > 1:
        raise ValueError(
            f"{key}: {single[0]!r} must be the only source, got {len(patterns)}; only "
            "tar files can be listed together"
        )
    if patterns[0].startswith("tfds:"):
        name, _, part = patterns[0].removeprefix("tfds:").partition("@")
        return TfdsName(name, part or split)
    table = _find_table(patterns[0])
    if table is not None:
        return CaptionTable(table)
    try:
        urls = list_shards(patterns)
    except ValueError as error:
        raise ValueError(f"{key}: {error}; {_EXPECTED}") from error
    return Shards(
        tuple(urls),
        window=own.get("window", Shards.window),
        open_shards=own.get("open_shards", Shards.open_shards),
    )


def captions_records(
    split: str, options: Mapping[str, Any], dataset: str = "captions"
) -> "Shards | CaptionTable":
    """Returns the source for the loader without TensorFlow; see `find_source`."""
    source = find_source(split, options, dataset)
    if not isinstance(source, TfdsName):
        return source
    raise ValueError(
        f"config.input.{dataset}.{split}='tfds:{source.name}' needs "
        "config.input.loader='seqio' and config.task.modules=('tasks.captions',)"
    )


class CaptionTable(Sequence[Mapping[str, Any]]):
    """A table of images and captions (CSV, TSV or JSONL), as a sequence of records.

    The column `image` (or `file_name`) holds paths relative to the file's own folder,
    the column `caption` (or `text`) the captions. Images are read on demand. Where the
    column `loss_weights` names a grey picture too, the record has `loss_weights`,
    float32[H, W] in [0, 1]: how much each place counts, for who learns to draw.

    Raises:
      ValueError: the file is malformed; names the line.
    """

    def __init__(self, path: pathlib.Path):
        self._folder = path.parent
        self._rows = _read_table(path)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        image, caption, *weights = self._rows[index]
        record = {"uid": image, "image": self._read(image, image), "prompt": caption}
        for name in weights:
            record["loss_weights"] = self._read(image, name, "loss_weights")
        return record

    def _read(self, image: str, name: str, field: str = "image") -> np.ndarray:
        read = images.read_image if field == "image" else images.read_map
        try:
            return read(self._folder / name)
        except images.ImageError as error:
            raise ValueError(f"record {image!r}, field {field!r}: {error}") from error

    def digest(self) -> str:
        """Returns the SHA-256 of all paths and captions, in order, and of the names of
        weights, if there are any."""
        return digest_rows(self._rows)

    def sample(self, index: int) -> Sample:
        """Returns row `index` with its image still encoded."""
        image, caption, *_ = self._rows[index]
        sample = Sample(uid=image, number=index, end=0, caption=caption)
        try:
            encoded = images.read_encoded(self._folder / image)
        except images.ImageError as error:
            return dataclasses.replace(sample, fault=str(error))
        return dataclasses.replace(sample, image=encoded)


def _find_table(pattern: str) -> pathlib.Path | None:
    if "://" in pattern:
        return None
    path = pathlib.Path(pattern)
    if path.suffix.lower() in (*SEPARATORS, ".jsonl"):
        return path
    return next((path / name for name in TABLES if (path / name).is_file()), None)


def _read_table(path: pathlib.Path) -> list[tuple[str, ...]]:
    found = []
    try:
        rows = _json_rows(path) if path.suffix == ".jsonl" else _csv_rows(path)
        for line, row in rows:
            image = _column(path, list(row), _IMAGE_COLUMNS)
            caption = _column(path, list(row), _CAPTION_COLUMNS)
            texts = row[image], row[caption].strip()
            if not all(texts):
                raise ValueError(
                    f"{path}, line {line}: {image!r} and {caption!r} must not be "
                    f"empty, got {texts}"
                )
            weights = row.get(_WEIGHTS_COLUMN)
            found.append((*texts, weights) if weights else texts)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from error
    if not found:
        raise ValueError(f"{path} has no rows")
    return found


_Rows = Iterator[tuple[int, Mapping[str, str]]]  # line, row


def _csv_rows(path: pathlib.Path) -> _Rows:
    reader = StrictReader(path)
    for names in (_IMAGE_COLUMNS, _CAPTION_COLUMNS):
        _column(path, reader.columns, names)  # even if there are no rows
    for row in reader:
        yield reader.line, row


def _json_rows(path: pathlib.Path) -> _Rows:
    """Yields the fields that are text; others are none of ours."""
    for number, line in enumerate(io.StringIO(read_text(path), newline="\n"), 1):
        if not line.strip():
            continue
        try:
            row = strict_json.loads(line)
            texts = {name: x for name, x in row.items() if isinstance(x, str)}
        except (ValueError, AttributeError, RecursionError) as error:
            raise ValueError(
                f"{path}, line {number}: expected a JSON object, got {line[:60]!r} "
                f"({error})"
            ) from error
        yield number, texts


def _column(path: object, names: Sequence[str], wanted: Sequence[str]) -> str:
    for name in wanted:
        if name in names:
            return name
    raise ValueError(
        f"{path} has no column {' or '.join(map(repr, wanted))}; "
        f"it has {', '.join(names) or 'none'}"
    )
