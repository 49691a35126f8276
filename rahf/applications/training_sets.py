"""Writes chosen images as trainers read them: a folder, tar shards, or pairs.

images/metadata.jsonl        {"file_name", "text"}, beside 000000000.png, ...: the image
                             folder of the `datasets` library and diffusers' scripts
weights/                     000000000.png, ..., grey: how much each place shall count
shards/00000.tar             000000000.png, .txt, .json: WebDataset, as img2dataset does
pairs/train-00000-of-00001.parquet
                             Pick-a-Pic's columns, as Diffusion-DPO's script reads them,
                             and `margin`, the difference of the two values

Image files are copied byte for byte.
"""

import collections
import dataclasses
import io
import itertools
import json
import os
import pathlib
import shutil
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

from PIL import Image

from rahf import durable, images
from rahf.applications import scored_shards
from rahf.applications.predictions import json_line
from rahf.applications.weighting import PlaceWeights
from rahf.inference import image_places
from rahf.inference.job_sources import SUFFIXES
from rahf.inference.jobs import free_id, safe_name

#: The number of samples in a tar or Parquet file.
SHARD_SIZE = 1000
# Encoded images of a Parquet row group: readers load one at a time.
_GROUP_BYTES = 64 * 2**20

_T = TypeVar("_T")


@dataclasses.dataclass(frozen=True)
class ChosenImage:
    """An image that is written.

    Attributes:
      id: its id, unique among those written.
      path: the image file, or its place in a shard (`image_places`).
      prompt: the text that goes with it.
      scores: its scores, for people to read.
      heatmaps: the places of its heatmaps, by name.
    """

    id: str
    path: str
    prompt: str
    scores: Mapping[str, float]
    heatmaps: Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class ChosenPair:
    """Two images of one prompt, of which one is the better.

    Attributes:
      first, second: the images.
      first_is_better: whether the first is the better one, else the second.
      margin: by how much the better one's value is higher; None if it was not chosen by
        a value.
    """

    first: ChosenImage
    second: ChosenImage
    first_is_better: bool
    margin: float | None


class Names:
    """Gives images ids that are unique, and safe file names for them."""

    def __init__(self):
        self._ids: set[str] = set()
        self._names: set[str] = set()
        self._repeats: collections.Counter[str] = collections.Counter()

    def image(self, row: Mapping[str, Any]) -> ChosenImage:
        """Returns the image of a line of predictions."""
        fields = (row[name] for name in ("image", "prompt", "scores", "heatmaps"))
        return ChosenImage(self._id(row), *fields)

    def name(self, row: Mapping[str, Any]) -> str:
        """Returns the file name of a line of predictions, without a suffix."""
        name = safe_name(self._id(row), self._names)
        self._names.add(name.casefold())
        return name

    def _id(self, row: Mapping[str, Any]) -> str:
        id_ = free_id(row["id"], self._ids, self._repeats)
        self._ids.add(id_)
        return id_


def suffix_of(path: str) -> str:
    """Returns an image file's suffix, by its content if its name has no usual one."""
    suffix = pathlib.PurePath(path).suffix.lower()  # of a place in a shard: none usual
    if suffix in SUFFIXES:
        return suffix
    file = path if image_places.is_file(path) else io.BytesIO(image_places.read(path))
    with Image.open(file, formats=images.FORMATS) as image:
        return f".{str(image.format).lower()}"


def write_images(
    folder: pathlib.Path,
    chosen: Iterable[ChosenImage],
    *,
    link: bool = False,
    weigh: PlaceWeights | None = None,
) -> list[str]:
    """Writes `images/` and, if asked to, `weights/`; returns the file of each image.

    Files are numbered: the `datasets` library makes a split of those whose names contain
    a word such as "test".

    Args:
      folder: the folder of the results.
      chosen: the images.
      link: whether to make symbolic links instead of copies.
      weigh: how to make weights of each image's heatmap; metadata.jsonl then names
        them as `loss_weights`.
    """
    target = folder / "images"
    target.mkdir(exist_ok=True)
    files = []
    with (
        durable.writing(target / "metadata.jsonl") as temporary,
        temporary.open("wb") as lines,
    ):
        for number, image in enumerate(chosen):
            name = f"{number:09d}{suffix_of(image.path)}"
            if not os.path.lexists(target / name):
                if link:
                    os.symlink(image.path, target / name)
                else:
                    with durable.writing(target / name) as copy:
                        _copy(image.path, copy)
            line = {"file_name": name, "text": image.prompt}
            if weigh is not None:
                file = f"weights/{number:09d}.png"
                _write_weights(folder / file, image, weigh)
                # Beside the folder: `datasets` takes every picture in it for an example.
                line["loss_weights"] = f"../{file}"
            lines.write(json_line(line))
            files.append(f"images/{name}")
    return files


def _write_weights(path: pathlib.Path, image: ChosenImage, weigh: PlaceWeights) -> None:
    path.parent.mkdir(exist_ok=True)
    if not path.exists():
        heatmap = scored_shards.read_heatmap(image.heatmaps[weigh.heatmap])
        with durable.writing(path) as temporary:
            images.write_heatmap(temporary, weigh.of(heatmap))


def _copy(place: str, target: pathlib.Path) -> None:
    if image_places.is_file(place):
        shutil.copyfile(place, target)
    else:
        target.write_bytes(image_places.read(place))


def write_shards(folder: pathlib.Path, chosen: Iterable[ChosenImage]) -> list[str]:
    """Writes `shards/`, and returns the shard and key of each image."""
    target = folder / "shards"
    target.mkdir(exist_ok=True)
    files: list[str] = []
    for shard, part in enumerate(_parts(chosen)):
        path, start = target / f"{shard:05d}.tar", len(files)
        keys = [f"{number:09d}" for number in range(start, start + len(part))]
        files += [f"shards/{path.name}/{key}" for key in keys]
        if path.exists():
            continue
        with durable.writing(path) as temporary, tarfile.open(temporary, "w") as tar:
            for key, image in zip(keys, part, strict=True):
                _add(tar, key, image)
    return files


def _parts(items: Iterable[_T]) -> Iterator[list[_T]]:
    """Divides items into lists of `SHARD_SIZE`."""
    items = iter(items)
    while part := list(itertools.islice(items, SHARD_SIZE)):
        yield part


def _add(tar: tarfile.TarFile, key: str, image: ChosenImage) -> None:
    about = {"caption": image.prompt, "id": image.id, "scores": dict(image.scores)}
    for suffix, data in (
        (suffix_of(image.path), image_places.read(image.path)),
        (".txt", image.prompt.encode("utf-8", "replace")),
        (".json", json.dumps(about).encode()),
    ):
        info = tarfile.TarInfo(key + suffix)
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))


def write_pairs(
    folder: pathlib.Path,
    pairs: Iterable[ChosenPair],
    number: int,
) -> list[str]:
    """Writes `pairs/`, and returns the file of each pair.

    Args:
      folder: the folder of the results.
      pairs: the pairs.
      number: the number of pairs, which the names of the files depend on.
    """
    target = folder / "pairs"
    target.mkdir(exist_ok=True)
    files: list[str] = []
    shards = -(-number // SHARD_SIZE)
    for shard, part in enumerate(_parts(pairs)):
        path = target / f"train-{shard:05d}-of-{shards:05d}.parquet"
        files += [f"pairs/{path.name}"] * len(part)
        if not path.exists():
            with durable.writing(path) as temporary:
                _write_parquet(temporary, part)
    return files


def _write_parquet(path: pathlib.Path, pairs: Iterable[ChosenPair]) -> None:
    import pyarrow
    import pyarrow.parquet

    types = {
        "image_0_uid": pyarrow.string(),
        "image_1_uid": pyarrow.string(),
        "jpg_0": pyarrow.binary(),
        "jpg_1": pyarrow.binary(),
        "caption": pyarrow.string(),
        "label_0": pyarrow.float64(),
        "label_1": pyarrow.float64(),
        "has_label": pyarrow.bool_(),
        "are_different": pyarrow.bool_(),
        "best_image_uid": pyarrow.string(),
        "margin": pyarrow.float64(),
    }
    schema = pyarrow.schema(list(types.items()))
    with pyarrow.parquet.ParquetWriter(path, schema) as file:
        for group in _groups(map(_pair_row, pairs)):
            file.write_table(pyarrow.Table.from_pylist(group, schema))


def _pair_row(pair: ChosenPair) -> dict[str, Any]:
    first, second = pair.first, pair.second
    return {
        "image_0_uid": first.id,
        "image_1_uid": second.id,
        "jpg_0": image_places.read(first.path),
        "jpg_1": image_places.read(second.path),
        "caption": first.prompt,
        "label_0": float(pair.first_is_better),
        "label_1": float(not pair.first_is_better),
        "has_label": True,
        "are_different": True,
        "best_image_uid": first.id if pair.first_is_better else second.id,
        "margin": pair.margin,
    }


def _groups(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Divides rows into lists of about `_GROUP_BYTES` of images."""
    group, held = [], 0
    for row in rows:
        group.append(row)
        held += len(row["jpg_0"]) + len(row["jpg_1"])
        if held >= _GROUP_BYTES:
            yield group
            group, held = [], 0
    if group:
        yield group
