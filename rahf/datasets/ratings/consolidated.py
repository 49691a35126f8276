"""Builds a dataset from raters' files, and reads it."""

import dataclasses
import io
import json
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from rahf import images, targets
from rahf.datasets import splits
from rahf.datasets.files.built_records import BuiltRecords
from rahf.datasets.files.dataset_folder import DatasetFolder
from rahf.datasets.ratings import consolidation
from rahf.datasets.ratings.rating_files import ImageRatings
from rahf.targets import Kind

NAME, VERSION = "consolidated", "1.0.0"
REPORT = "consolidation.json"

_MAPS = {row.field for row in targets.select(targets.FEEDBACK, Kind.HEATMAP)}
_ORIENTATION = 0x0112  # the Exif tag


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


def write_dataset(
    rated: Sequence[ImageRatings],
    folder: str | os.PathLike,
    output: str | os.PathLike,
    *,
    options: consolidation.ConsolidationOptions = consolidation.PAPER,
    dev_share: float = 0.1,
    test_share: float = 0.1,
    seed: int = 0,
    map_size: int = 512,
    skip_bad_images: bool = False,
    progress: bool = True,
) -> ConsolidationReport:
    """Consolidates ratings and writes the dataset, one picture at a time.

    Also writes the counts to `<output>/consolidated/consolidation.json`.

    Args:
      rated: the images from `rating_files.read`, each with a prompt.
      folder: the folder of the images.
      output: the data directory; the dataset is `<output>/consolidated/1.0.0`.
      options: how to consolidate.
      dev_share, test_share: shares of the prompts, each with all its images; used if
        the file has no splits.
      seed: the seed of those splits.
      map_size: the longer side of heatmaps, in pixels; the shape is the image's.
      skip_bad_images: whether to skip and report images that cannot be read.
      progress: whether to draw a progress bar on stderr.

    Returns:
      The counts.

    Raises:
      ImageError: an image cannot be read.
      ValueError: an image has no prompt, no image is left, or the dataset exists.
    """
    if map_size < 1:
        raise ValueError(f"map_size={map_size} must be at least 1")
    without = [each.image for each in rated if each.prompt is None]
    if without:
        raise ValueError(
            f"{len(without)} of {len(rated)} images have no prompt, such as "
            f"{without[0]!r}; give --prompts=CSV with the columns image and prompt, or "
            "--prompt for all of them"
        )
    assigned = _assign_splits(
        rated, seed=seed, dev_share=dev_share, test_share=test_share
    )
    report, people = ConsolidationReport(), set()

    def records() -> Iterator[tuple[str, dict[str, Any]]]:
        uids = _uids(rated)
        for each in tqdm(rated, unit="image", disable=not progress):
            try:
                data, size = _read(pathlib.Path(folder), each.image, map_size)
            except images.ImageError as error:
                if not skip_bad_images:
                    raise
                report.skipped[each.image] = str(error)
                continue
            prompt = each.prompt or ""
            try:
                labels = consolidation.consolidate(
                    each.ratings, prompt, size=size, options=options
                )
            except ValueError as error:
                raise ValueError(f"image {each.image!r}: {error}") from error
            split = assigned[each.image]
            report.images += 1
            report.ratings += len(each.ratings)
            people.update(rating["rater"] for rating in each.ratings)
            report.raters = len(people)
            report.splits[split] = report.splits.get(split, 0) + 1
            for field in labels:
                report.labels[field] = report.labels.get(field, 0) + 1
            for field in _MAPS & labels.keys():
                labels[field] = _encode_map(labels[field])
            who = {"uid": uids[each.image], "filename": each.image}
            yield split, who | {"image": data, "prompt": prompt} | labels

    if not skip_bad_images:  # fail now rather than after hours of work
        for each in rated:
            if not (pathlib.Path(folder) / each.image).is_file():
                _read(pathlib.Path(folder), each.image, map_size)
    target = DatasetFolder.in_data_dir(output, NAME, VERSION)
    target.prepare()
    from rahf.datasets.files import tfds_records  # imports TensorFlow when it writes

    with target.writing():
        written = tfds_records.write(
            target,
            description="Consolidated ratings, made by rahf.bin.consolidate.",
            splits=splits.SPLITS,
            records=records(),
        )
        if not written:
            raise ValueError("no image could be read: there is nothing to write")
        content = dataclasses.asdict(report) | {"options": dataclasses.asdict(options)}
        (target.folder / REPORT).write_text(
            json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
        )
    return report


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
    """Returns the encoded image to store, and the size of its maps.

    A plain JPEG or PNG is stored as it is. Anything else (rotated by Exif, with alpha,
    CMYK, 16 bits, animated, WebP) becomes PNG, so that every reader of the dataset
    sees what raters saw.
    """
    pixels = images.read_image(folder / name)
    data = (folder / name).read_bytes()
    with Image.open(io.BytesIO(data), formats=images.FORMATS) as image:
        plain = (
            image.format in ("JPEG", "PNG")
            and image.mode == "RGB"
            and getattr(image, "n_frames", 1) == 1
            and not image.has_transparency_data
            and _is_upright(image)
        )
    if not plain:
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        data = file.getvalue()
    scale = min(1.0, map_size / max(pixels.shape[:2]))
    height, width = (max(1, round(side * scale)) for side in pixels.shape[:2])
    return data, (height, width)


def _is_upright(image: Image.Image) -> bool:
    try:
        return image.getexif().get(_ORIENTATION, 1) == 1
    except Exception:  # noqa: BLE001  damaged metadata may trip other readers
        return False


def _encode_map(heatmap: np.ndarray) -> bytes:
    """Encodes a float32[H, W] map in [0, 1] as 8-bit PNG."""
    file = io.BytesIO()
    Image.fromarray(np.rint(255 * heatmap).astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


class Consolidated(BuiltRecords):
    """One split of the dataset that rahf.bin.consolidate writes."""

    name, section = NAME, "consolidated"
    remedy = "build it with python -m rahf.bin.consolidate (docs/annotate.md)"
