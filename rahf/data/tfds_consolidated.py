"""The dataset that raters' files become: TFDS's layout in array_record files.

TFDS reads and writes these files without TensorFlow; its import is lazy all through.
"""

import io
import os
import pathlib
import shutil
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from rahf import images
from rahf import targets as table
from rahf.targets import Kind

NAME, VERSION = "consolidated", "1.0.0"
OPTION = "config.input.consolidated.data_dir"

# A shard of some hundred megabytes with images of 200 kB.
_RECORDS_PER_SHARD = 1024


def make_features() -> tfds.features.FeaturesDict:
    """Returns the fields: those of rich_hf_18k.

    `masked` names the labels of a record that nobody gave, as a tensor cannot be left
    out.
    """
    kinds = {
        Kind.HEATMAP: lambda: tfds.features.Image(shape=(None, None, 1)),
        Kind.SCORE: lambda: tfds.features.Scalar(np.float32),
        Kind.WORDS: lambda: tfds.features.Sequence(np.int8),
    }
    labels = {row.field: kinds[row.kind]() for row in table.select(table.FEEDBACK)}
    return tfds.features.FeaturesDict(
        {
            "uid": tfds.features.Text(),
            "filename": tfds.features.Text(),
            "image": tfds.features.Image(),
            "prompt": tfds.features.Text(),
            **labels,
            "masked": tfds.features.Sequence(tfds.features.Text()),
        }
    )


def write(
    output: str | os.PathLike, records: Iterable[tuple[str, Mapping[str, Any]]]
) -> pathlib.Path:
    """Writes a dataset, one record in memory at a time.

    It stands in a folder of another name until it is whole, so that a process which
    is killed leaves nothing that looks like a dataset.

    Args:
      output: data directory; the dataset is `<output>/consolidated/1.0.0`.
      records: `(split, record)`; a record has `uid`, `filename`, `image` (encoded
        bytes), `prompt` and the label fields that are known.

    Returns:
      The folder of the dataset.

    Raises:
      ValueError: there was no record, or there is a dataset already.
    """
    folder = pathlib.Path(output) / NAME / VERSION
    if folder.exists():
        raise ValueError(f"{folder} exists already; remove it, or write elsewhere")
    unfinished = folder.with_name(f"{VERSION}.incomplete")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    info = tfds.core.DatasetInfo(
        builder=tfds.core.DatasetIdentity(
            name=NAME,
            version=tfds.core.Version(VERSION),
            data_dir=str(unfinished),
            module_name="",
        ),
        description="Consolidated ratings, made by rahf.bin.consolidate.",
        features=make_features(),
    )
    writer = tfds.core.SequentialWriter(
        info, _RECORDS_PER_SHARD, file_format="array_record"
    )
    splits: list[str] = []
    for split, record in records:
        if split not in splits:
            splits.append(split)
            writer.initialize_splits([split])
        writer.add_examples({split: [_encode(record)]})
    writer.close_splits(splits)
    if not splits:
        raise ValueError("expected at least one record to write, got none")
    unfinished.rename(folder)
    return folder


def _encode(record: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a record as TFDS takes it; labels that are not there become empty."""
    encoded: dict[str, Any] = {
        name: record[name] for name in ("uid", "filename", "prompt")
    }
    encoded["image"] = io.BytesIO(record["image"])
    masked = []
    for row in table.select(table.FEEDBACK):
        label = record.get(row.field)
        if label is None:
            masked.append(row.field)
            label = _MISSING[row.kind]
        if row.kind is Kind.HEATMAP:
            file = io.BytesIO()
            Image.fromarray(np.rint(255 * label).astype(np.uint8)).save(file, "PNG")
            label = io.BytesIO(file.getvalue())  # TFDS reads on from where it stands
        encoded[row.field] = label
    return encoded | {"masked": masked}


_MISSING = {
    Kind.HEATMAP: np.zeros((1, 1), np.float32),
    Kind.SCORE: float("nan"),
    Kind.WORDS: [],
}


class Consolidated(Sequence[dict[str, Any]]):
    """One split of a dataset that `write` wrote, decoded record by record.

    Args:
      split: "train", "dev" or "test".
      data_dir: what was `--output` of rahf.bin.consolidate.

    Raises:
      ValueError: there is no such dataset or split; for a record, that it is damaged.
    """

    def __init__(self, split: str, data_dir: str | os.PathLike):
        folder = pathlib.Path(data_dir) / NAME / VERSION
        if not data_dir or not (folder / "dataset_info.json").is_file():
            raise ValueError(
                f"{OPTION}={str(data_dir)!r} holds no {NAME}/{VERSION}; make it with "
                "python -m rahf.bin.consolidate ratings.jsonl --images=DIR --output="
                f"{data_dir or 'DIR'}"
            )
        builder = tfds.builder_from_directory(folder)
        if split not in builder.info.splits:
            raise ValueError(
                f"{folder} has no split {split!r}; it has "
                f"{', '.join(builder.info.splits)}"
            )
        self.split, self.data_dir = split, str(data_dir)
        skip = tfds.decode.SkipDecoding()
        encoded = ("image", *(row.field for row in _maps()))
        decoders = dict.fromkeys(encoded, skip)
        open_split: Any = builder.as_data_source  # its decorator hides the arguments
        self._source = open_split(split, decoders=decoders)

    def __len__(self) -> int:
        return len(self._source)

    def __repr__(self) -> str:
        return f"Consolidated({self.split!r}, {self.data_dir!r})"

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"record {index} of {len(self)} in {self!r}")
        index = int(index) % len(self)
        try:
            stored = self._source[index]
        except Exception as error:  # array_record raises several, by what is damaged
            raise ValueError(f"{self!r}, record {index}: damaged: {error}") from error
        uid = stored["uid"].decode()
        record: dict[str, Any] = {"uid": uid, "prompt": stored["prompt"].decode()}
        known = set(stored).difference(name.decode() for name in stored["masked"])
        fields = {"image": images.read_image}
        fields |= {row.field: images.read_map for row in _maps() if row.field in known}
        for field, decode in fields.items():
            try:
                record[field] = decode(stored[field])
            except images.ImageError as error:
                raise ValueError(
                    f"{self!r}, record {uid!r}, field {field!r}: {error}"
                ) from error
        for row in table.select(table.FEEDBACK):
            if row.field in known and row.kind is not Kind.HEATMAP:
                label = stored[row.field]
                score = row.kind is Kind.SCORE
                record[row.field] = float(label) if score else np.array(label, np.int8)
        return record


def _maps() -> list[table.Target]:
    return table.select(table.FEEDBACK, Kind.HEATMAP)
