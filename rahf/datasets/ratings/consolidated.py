"""Builds a dataset from raters' files, and reads it."""

import dataclasses
import io
import json
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from rahf import durable, images, targets
from rahf.datasets import splits
from rahf.datasets.files.built_records import BuiltRecords
from rahf.datasets.files.dataset_folder import DatasetFolder
from rahf.datasets.ratings import consolidation
from rahf.datasets.ratings.consolidation import PAPER, ConsolidationOptions
from rahf.datasets.ratings.rating_files import ImageRatings
from rahf.targets import Kind

NAME, VERSION = "consolidated", "1.0.0"
REPORT = "consolidation.json"

_MAPS = {row.field for row in targets.select(targets.FEEDBACK, Kind.HEATMAP)}


@dataclasses.dataclass(kw_only=True)
class ConsolidationReport:
    """Counts of what was written.

    Attributes:
      images, ratings, raters: the numbers of each.
      splits: split -> number of images.
      labels: field -> number of images with this label.
      skipped: image -> why it was skipped.
    """

    images: int = 0
    ratings: int = 0
    raters: int = 0
    splits: dict[str, int] = dataclasses.field(default_factory=dict)
    labels: dict[str, int] = dataclasses.field(default_factory=dict)
    skipped: dict[str, str] = dataclasses.field(default_factory=dict)

    def summary(self) -> str:
        """Returns the counts in words."""
        splits = ", ".join(
            f"{name} {self.splits[name]}" for name in sorted(self.splits)
        )
        text = (
            f"{self.images} images ({splits}), {self.ratings} ratings by {self.raters} "
            f"raters; labels: {', '.join(self.labels)}"
        )
        if self.skipped:
            text += f"; {len(self.skipped)} images could not be read, see {REPORT}"
        return text


@dataclasses.dataclass(frozen=True, kw_only=True)
class DatasetOptions:
    """How a dataset is made of ratings.

    Attributes:
      consolidation: how several raters' answers become one label.
      dev_share, test_share: shares of the prompts, with all of their images, where the
        file has no splits.
      seed: the seed of those splits.
      map_size: a heatmap's longer side, in pixels; its aspect is the image's.
      skip_bad_images: report an image that cannot be read, in place of an error.
      progress: whether to draw a progress bar on stderr.
    """

    consolidation: ConsolidationOptions = PAPER
    dev_share: float = 0.1
    test_share: float = 0.1
    seed: int = 0
    map_size: int = 512
    skip_bad_images: bool = False
    progress: bool = True

    def __post_init__(self):
        if self.map_size < 1:
            raise ValueError(f"map_size={self.map_size} must be at least 1")


def write_dataset(
    rated: Sequence[ImageRatings],
    folder: str | os.PathLike,
    output: str | os.PathLike,
    options: DatasetOptions = DatasetOptions(),
) -> ConsolidationReport:
    """Consolidates ratings and writes the dataset, streaming pictures one by one.

    `<output>/consolidated/consolidation.json`, beside it, holds the report.

    Args:
      rated: ratings from `rating_files.read`, each with a prompt.
      folder: the folder of the images.
      output: the data directory; the dataset is `<output>/consolidated/1.0.0`.
      options: how to make it.

    Returns:
      The counts.

    Raises:
      ImageError: an image cannot be read.
      ValueError: an image has no prompt, no image is left, or the dataset exists.
    """
    _check_prompts(rated)
    records = _Records(rated, pathlib.Path(folder), options)
    if not options.skip_bad_images:  # before hours of work, rather than in their midst
        records.check_files()
    target = DatasetFolder.in_data_dir(output, NAME, VERSION)
    target.prepare()
    from rahf.datasets.files import tfds_records  # imports TensorFlow when it writes

    with target.writing():
        written = tfds_records.write(
            target,
            description="Consolidated ratings, made by rahf.bin.consolidate.",
            splits=splits.SPLITS,
            records=iter(records),
        )
        if not written:
            raise ValueError("no image could be read: there is nothing to write")
        content = dataclasses.asdict(records.report) | {
            "options": dataclasses.asdict(options.consolidation)
        }
        durable.write_text(
            target.folder / REPORT,
            json.dumps(content, indent=2, ensure_ascii=False) + "\n",
        )
    return records.report


def _check_prompts(rated: Sequence[ImageRatings]) -> None:
    without = [each.image for each in rated if each.prompt is None]
    if without:
        raise ValueError(
            f"{len(without)} of {len(rated)} images have no prompt, such as "
            f"{without[0]!r}; give --prompts=CSV with the columns image and prompt, or "
            "--prompt for all of them"
        )


class _Records:
    """Iterates over (split, record) once, counting into `report`."""

    def __init__(
        self,
        rated: Sequence[ImageRatings],
        folder: pathlib.Path,
        options: DatasetOptions,
    ):
        self._rated, self._folder, self._options = rated, folder, options
        self._splits = _assign_splits(
            rated,
            seed=options.seed,
            dev_share=options.dev_share,
            test_share=options.test_share,
        )
        self._uids = _uids(rated)
        self._raters: set[str] = set()
        self.report = ConsolidationReport()

    def check_files(self) -> None:
        """Raises ImageError for the first image that does not exist."""
        for each in self._rated:
            if not (self._folder / each.image).is_file():
                _read(self._folder, each.image, self._options.map_size)

    def __iter__(self) -> Iterator[tuple[str, dict[str, Any]]]:
        for each in tqdm(self._rated, unit="image", disable=not self._options.progress):
            try:
                data, size = _read(self._folder, each.image, self._options.map_size)
            except images.ImageError as error:
                if not self._options.skip_bad_images:
                    raise
                self.report.skipped[each.image] = str(error)
                continue
            labels = self._consolidate(each, size)
            self._count(each, labels)
            for field in _MAPS & labels.keys():
                labels[field] = encode_map(labels[field])
            who = {"uid": self._uids[each.image], "filename": each.image}
            picture = {"image": data, "prompt": each.prompt or ""}
            yield self._splits[each.image], who | picture | labels

    def _consolidate(self, each: ImageRatings, size: tuple[int, int]) -> dict[str, Any]:
        try:
            return consolidation.consolidate(
                each.ratings,
                each.prompt or "",
                size=size,
                options=self._options.consolidation,
            )
        except ValueError as error:
            raise ValueError(f"image {each.image!r}: {error}") from error

    def _count(self, each: ImageRatings, labels: Mapping[str, Any]) -> None:
        report, split = self.report, self._splits[each.image]
        report.images += 1
        report.ratings += len(each.ratings)
        self._raters.update(rating["rater"] for rating in each.ratings)
        report.raters = len(self._raters)
        report.splits[split] = report.splits.get(split, 0) + 1
        for field in labels:
            report.labels[field] = report.labels.get(field, 0) + 1


def _assign_splits(rated: Sequence[ImageRatings], **cut: Any) -> dict[str, str]:
    """Returns the split of each image: from the file, or else by prompt.

    Raises:
      ValueError: only some images have a split, or `splits.cut` raises.
    """
    names = [each.image for each in rated]
    given = {each.image: each.split for each in rated if each.split is not None}
    if given and len(given) < len(rated):
        raise ValueError(
            f"{len(given)} of {len(rated)} images have a split; expected all or none"
        )
    if given:
        return given
    groups = [splits.name_group(each.prompt or "", each.image) for each in rated]
    return dict(
        zip(names, splits.cut(groups, option="--", **cut).tolist(), strict=True)
    )


def _uids(rated: Sequence[ImageRatings]) -> dict[str, str]:
    """Returns the images' uids: paths without the suffix, if these are unique."""
    stems = {each.image: os.path.splitext(each.image)[0] for each in rated}
    unique = len(set(stems.values())) == len(stems)
    return stems if unique else {image: image for image in stems}


def _read(
    folder: pathlib.Path, name: str, map_size: int
) -> tuple[bytes, tuple[int, int]]:
    """Returns the encoded image to store, and the size of its maps."""
    pixels = images.read_image(folder / name)
    data = encode_image((folder / name).read_bytes(), pixels)
    scale = min(1.0, map_size / max(pixels.shape[:2]))
    height, width = (max(1, round(side * scale)) for side in pixels.shape[:2])
    return data, (height, width)


def encode_image(data: bytes, pixels: np.ndarray) -> bytes:
    """Returns the bytes of an image as a dataset stores it.

    A plain JPEG or PNG is stored as it is. Anything else (rotated by Exif, with alpha,
    CMYK, 16 bits, animated, WebP) becomes PNG, so that every reader of the dataset
    sees what raters saw.

    Args:
      data: the file's bytes.
      pixels: uint8[H, W, 3], the same image as `rahf.images.read_image` reads it.
    """
    if images.is_plain(data):
        return data
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def encode_map(heatmap: np.ndarray) -> bytes:
    """Encodes a float32[H, W] map in [0, 1] as 8-bit PNG."""
    file = io.BytesIO()
    Image.fromarray(np.rint(255 * heatmap).astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


class Consolidated(BuiltRecords):
    """One split of the dataset that rahf.bin.consolidate writes."""

    name, section = NAME, "consolidated"
    remedy = "build it with python -m rahf.bin.consolidate (docs/annotate.md)"
