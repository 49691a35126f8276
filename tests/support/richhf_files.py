"""Tiny label files and Pick-a-Pic shards in the formats they are published in."""

import io
import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

#: Split -> records of the label files.
SIZES = {"train": 6, "dev": 2, "test": 2}
SCORES = ("artifact_score", "misalignment_score", "aesthetics_score", "overall_score")
PROMPTS = (
    "a red boat, left of a house",
    'a "well-known" cat: isn\'t it?',
    "zwei größere Häuser; one tree!",
    "star",
)


def uid(split, index):
    """A uid as Pick-a-Pic has them."""
    return f"{split}{index:02d}-1ad9-4b0e-9b4c-7d6e1e0f8a21"


def uids():
    """The uids of all records, in the order of the label files."""
    return [uid(split, i) for split, size in SIZES.items() for i in range(size)]


def prompt(name):
    return PROMPTS[uids().index(name) % len(PROMPTS)] if name in uids() else "a dog"


def pixels(name, size=(48, 64)):
    """uint8[H, W, 3]: smooth, so that JPEG hardly changes it, and known by its uid."""
    seed = sum(name.encode())
    across = np.linspace(0, 200, size[1])[None, :, None]
    down = np.linspace(0, 50, size[0])[:, None, None]
    return (across + down + np.array([seed % 5, seed % 3, 0])).astype(np.uint8)


def encode(array, kind):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, kind)
    return buffer.getvalue()


def heatmap(index, side=512):
    """uint8[side, side]: disks of one, two and three raters."""
    y, x = np.mgrid[:side, :side]
    value = np.zeros((side, side), np.uint8)
    for rater in range(3):
        center = (100 + 40 * index, 90 + 20 * rater)
        near = (y - center[0]) ** 2 + (x - center[1]) ** 2 <= (side / 20) ** 2
        value += (85 * near).astype(np.uint8)
    return value


def words_of(name):
    """The published word labels: every third word is misaligned."""
    text = prompt(name)
    for delimiter in ',.?!":;':
        text = text.replace(delimiter, " ")
    return " ".join("0" if i % 3 == 1 else "1" for i in range(len(text.split())))


def features(split, index):
    """The published features of a record, as Python values."""
    name = uid(split, index)
    return {
        "filename": f"{split}/{name}.png".encode(),
        "artifact_map": encode(heatmap(index), "PNG"),
        "misalignment_map": encode(heatmap(index + 1), "PNG"),
        "prompt_misalignment_label": words_of(name).encode(),
    } | {field: (index + 3 * i) % 13 / 12 for i, field in enumerate(SCORES)}


def write_labels(folder, change=lambda split, index, features: features):
    """Writes train.tfrecord, dev.tfrecord and test.tfrecord.

    Args:
      folder: to write to.
      change: may alter the features of a record, or give bytes to write instead.
    """
    import tensorflow as tf

    def feature(value):
        if isinstance(value, bytes):
            return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
        return tf.train.Feature(float_list=tf.train.FloatList(value=[value]))

    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for split, size in SIZES.items():
        with tf.io.TFRecordWriter(str(folder / f"{split}.tfrecord")) as writer:
            for index in range(size):
                found = change(split, index, features(split, index))
                if isinstance(found, dict):
                    named = {name: feature(value) for name, value in found.items()}
                    example = tf.train.Example(
                        features=tf.train.Features(feature=named)
                    )
                    found = example.SerializeToString()
                writer.write(found)
    return folder


def rows(split, lacks=()):
    """Rows of Pick-a-Pic: pairs of images, of which one or both have labels."""
    ours = [name for name in uids() if name.startswith(split) and name not in lacks]
    found = []
    for i, name in enumerate(ours):
        pair = [name, f"other-{split}-{i}"]
        if i % 3 == 1:
            pair.reverse()
        found += [
            {"image_0_uid": f"none-{split}-{i}", "image_1_uid": f"no-{i}"}
            | {"jpg_0": b"never", "jpg_1": b"decoded", "caption": "a dog"},
            {"image_0_uid": pair[0], "image_1_uid": pair[1]}
            | {f"jpg_{j}": encode(pixels(pair[j]), "JPEG") for j in range(2)}
            | {"caption": prompt(name)},
        ]
    return found


def write_shard(path, rows, *, nested=False, row_group_size=2, label=0.5):
    """Writes one Parquet file with Pick-a-Pic's columns.

    Args:
      path: of the file.
      rows: dicts.
      nested: whether images are `{bytes, path}`, as Hugging Face stores them.
      row_group_size: rows of a row group.
      label: a column among the others that are there and not needed.
    """
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    image = image if nested else pa.binary()
    columns = {"label_0": pa.array([label] * len(rows), pa.float64())}
    for name in ("image_0_uid", "image_1_uid", "caption"):
        columns[name] = pa.array([row[name] for row in rows], pa.string())
    for name in ("jpg_0", "jpg_1"):
        cells = [row[name] for row in rows]
        cells = [{"bytes": cell, "path": None} for cell in cells] if nested else cells
        columns[name] = pa.array(cells, image)
    pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, row_group_size=row_group_size)


def write_pickapic(folder, lacks=()):
    """Writes shards of the train, test and validation splits, one of them nested."""
    data = pathlib.Path(folder) / "data"
    train = rows("train", lacks) + rows("dev", lacks)
    write_shard(data / "train-00000-of-00002-ab.parquet", train[:6])
    write_shard(data / "train-00001-of-00002-cd.parquet", train[6:], nested=True)
    write_shard(data / "test-00000-of-00001-ef.parquet", rows("test", lacks))
    write_shard(data / "validation-00000-of-00001-01.parquet", rows("none"))
    return pathlib.Path(folder)
