"""Captioned images in common formats: tar shards, a folder with a CSV file, or TFDS.

`config.input.captions` names the source of each split; `find_source` opens it.
"""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from rahf import images
from rahf.datasets.files.csv_table import SEPARATORS, StrictReader
from rahf.datasets.files.tar_shards import Sample, Shards, list_shards
from rahf.datasets.row_digest import digest_rows

#: Tables to look for in a folder; the second name is that of the `datasets` library.
TABLES = ("captions.csv", "metadata.csv")
_IMAGE_COLUMNS = ("image", "file_name")
_CAPTION_COLUMNS = ("caption", "text")

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
    """A CSV or TSV of images and captions, as a sequence of records.

    The column `image` (or `file_name`) holds paths relative to the file's own folder,
    the column `caption` (or `text`) the captions. Images are read on demand.

    Raises:
      ValueError: the file is malformed; names the line.
    """

    def __init__(self, path: pathlib.Path):
        self._folder = path.parent
        self._rows = _read_table(path)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        image, caption = self._rows[index]
        try:
            pixels = images.read_image(self._folder / image)
        except images.ImageError as error:
            raise ValueError(f"record {image!r}, field 'image': {error}") from error
        return {"uid": image, "image": pixels, "prompt": caption}

    def digest(self) -> str:
        """Returns the SHA-256 of all paths and captions, in order."""
        return digest_rows(self._rows)

    def sample(self, index: int) -> Sample:
        """Returns row `index` with its image still encoded."""
        image, caption = self._rows[index]
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
    if path.suffix.lower() in SEPARATORS:
        return path
    return next((path / name for name in TABLES if (path / name).is_file()), None)


def _read_table(path: pathlib.Path) -> list[tuple[str, str]]:
    rows = []
    try:
        reader = StrictReader(path)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from error
    image = _column(path, reader.columns, _IMAGE_COLUMNS)
    caption = _column(path, reader.columns, _CAPTION_COLUMNS)
    for row in reader:
        found = row[image], row[caption].strip()
        if not all(found):
            raise ValueError(
                f"{path}, line {reader.line}: {image!r} and {caption!r} must not be "
                f"empty, got {found}"
            )
        rows.append(found)
    if not rows:
        raise ValueError(f"{path} has no rows")
    return rows


def _column(path: pathlib.Path, names: Sequence[str], wanted: Sequence[str]) -> str:
    for name in wanted:
        if name in names:
            return name
    raise ValueError(
        f"{path} has no column {' or '.join(map(repr, wanted))}; "
        f"it has {', '.join(names) or 'none'}"
    )
