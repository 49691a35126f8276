"""Damaged input of every kind, 2,700 cases: read, or refused by a clear error.

Nothing else may come out, nothing may take much work, and the seeds are fixed.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import io
import json
import random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from PIL import Image

from rahf import images
from rahf.datasets.files import tfds_records
from rahf.datasets.files.dataset_folder import DatasetFolder
from rahf.datasets.ratings import rating_files
from rahf.datasets.ratings.consolidated import Consolidated
from rahf.images import ImageError
from rahf.inference import jobs
from rahf.input.bad_records import Counter, Policy
from rahf.input.seqio import loader as seqio_loader
from rahf.input.seqio import tasks as seqio_tasks
from rahf.input.vocabulary import load
from tests.support import counted

#: Calls of functions and pixels that one case may take, of a limit of a megapixel.
MOST_CALLS, MOST_PIXELS = 20_000, 1_000_000
#: How often a file that breaks off may be asked for an element, of which it has three.
MOST_TRIES = 50


def mutate(rng, data: bytes) -> bytes:
    """Overwrites, inserts, repeats or cuts some of the bytes."""
    data = bytearray(data)
    for _ in range(rng.choice([1, 2, 8, 40])):
        # Half of the hits fall on the head, where the structure is.
        end = 64 if rng.random() < 0.5 else len(data)
        place = rng.randrange(max(1, min(end, len(data))))
        match rng.randrange(6):
            case 0 | 1 | 2:
                data[place : place + 1] = bytes([rng.randrange(256)])
            case 3:
                data[place:place] = rng.randbytes(rng.choice([1, 4, 300]))
            case 4:
                data[place:place] = data[place : place + rng.randrange(64)]
            case 5:
                data[place : place + 4] = rng.choice([b"\xff" * 4, bytes(4), b"\x7f"])
    if rng.random() < 0.2:
        del data[rng.randrange(len(data) + 1) :]
    return bytes(data)


def attempt(action, *allowed, calls=MOST_CALLS):
    """Returns the result, or None where it is refused by an allowed error."""
    result = None
    for _ in range(2):
        with counted.work() as done:
            try:
                result = action()
            except allowed as error:
                assert str(error).strip()
        # What a process does once, such as compiling a pattern, is not done again.
        if done.calls <= calls:
            break
    assert done.calls <= calls
    assert sum(done.pixels) <= MOST_PIXELS
    return result


def encode(kind, side=32, **options) -> bytes:
    noise = np.random.default_rng(3).integers(0, 255, (side, side, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {}),
        ("JPEG", {"progressive": True, "exif": b"Exif\0\0II*\0\x08\0\0\0\0\0"}),
        ("PNG", {}),
        ("WEBP", {}),
        ("WEBP", {"lossless": True}),
    ],
)
def test_pictures(kind, options):
    rng, whole = random.Random(f"{kind}{options}"), encode(kind, **options)
    read = 0
    for _ in range(250):
        data = mutate(rng, whole)
        pixels = attempt(
            lambda data=data: images.read_image(data, max_pixels=1_000_000), ImageError
        )
        if pixels is not None:
            read += 1
            assert pixels.dtype == np.uint8 and pixels.shape[2:] == (3,)
            assert images.resize(pixels, (16, 16)).shape == (16, 16, 3)
    assert read < 250


def test_maps():
    rng = random.Random("maps")
    file = io.BytesIO()
    grey = np.random.default_rng(0).integers(0, 256, (24, 24), np.uint8)
    Image.fromarray(grey).save(file, "PNG")
    for _ in range(150):
        data = mutate(rng, file.getvalue())
        values = attempt(
            lambda data=data: images.read_map(data, max_pixels=1_000_000), ImageError
        )
        assert values is None or (values.min() >= 0 and values.max() <= 1)


def test_cells_of_parquet():
    rng, whole = random.Random("cells"), encode("JPEG")
    others = [None, b"", b"\0", b"\xff" * 99, encode("GIF"), encode("BMP")]
    cells = [mutate(rng, whole) for _ in range(194)] + others
    file = io.BytesIO()
    pq.write_table(pa.table({"image": [{"bytes": cell} for cell in cells]}), file)
    column = pq.read_table(file, columns=["image"])["image"]
    read = 0
    for cell in column.to_pylist():
        data = cell["bytes"]
        pixels = attempt(lambda data=data: images.read_image(data), ImageError)
        read += pixels is not None
    assert 2 <= read < len(cells)


def line_of(rng) -> bytes:
    """A rating, some of its values replaced by what JSON can hold."""
    row = {
        "image": "cat.png",
        "prompt": "a yellow cat",
        "rater": "r07",
        "implausible_points": [[0.25, 0.5], [1, 0]],
        "misaligned_points": [],
        "misaligned_words": [1],
        "scores": {"plausibility": 2, "alignment": 4},
        "seconds": 41.0,
    }
    strange = [None, True, -1, 1e308, 10**30, "", "\0", "é\ud800", [], {}, [[]], [None]]
    for _ in range(rng.randrange(3)):
        row[rng.choice([*row, "extra"])] = rng.choice(strange)
    text = json.dumps(row).encode()
    return mutate(rng, text) if rng.random() < 0.6 else text


def test_lines_of_raters(tmp_path):
    rng, path = random.Random("lines"), tmp_path / "ratings.jsonl"
    read = 0
    for _ in range(500):
        path.write_bytes(b"\n".join(line_of(rng) for _ in range(rng.randrange(1, 3))))
        rated = attempt(lambda: rating_files.read(path), rating_files.RatingsError)
        read += rated is not None
    assert 20 < read < 480
    path.write_bytes(b"[" * 200_000 + b"\n" + b'{"a":' * 100_000 + b"\n\xff\xfe\n\0")
    assert attempt(lambda: rating_files.read(path), rating_files.RatingsError) is None


def test_lines_of_prompts_and_tables(tmp_path):
    rng = random.Random("prompts")
    tables = {
        "p.jsonl": b'{"image": "a.png", "prompt": "a cat"}\n{"image": "b", "id": 3}\n',
        "p.csv": b'rater,image,prompt,overall\n1,a.png,"a ""red"" cat",3\n2,b,,5\n',
    }
    for _ in range(150):
        name = rng.choice(list(tables))
        path = tmp_path / name
        path.write_bytes(mutate(rng, tables[name]))
        attempt(lambda path=path: jobs.read_jobs([str(path)], "x"), ValueError)
        if name == "p.csv":
            attempt(lambda path=path: rating_files.read(path), ValueError)


def example_bytes(index: int) -> bytes:
    def feature(value):
        if isinstance(value, float):
            return tf.train.Feature(float_list=tf.train.FloatList(value=[value]))
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))

    fields = {
        "uid": str(index).encode(),
        "prompt": b"a red fish",
        "image": encode("JPEG", 16),
        "overall_score": 0.5,
    }
    features = {name: feature(value) for name, value in fields.items()}
    return tf.train.Example(
        features=tf.train.Features(feature=features)
    ).SerializeToString()


def to_record(data):
    scalar = tf.io.FixedLenFeature
    row = seqio_tasks.parse_example(
        data,
        {name: scalar([], tf.string) for name in ("uid", "prompt", "image")}
        | {"overall_score": scalar([], tf.float32)},
    )
    row["image"] = tf.numpy_function(
        lambda data: images.read_image(data, max_pixels=1_000_000),
        [row["image"]],
        tf.uint8,
    )
    row["image"].set_shape([None, None, 3])
    return row


class _Counted:
    """The elements of a dataset, counted as they are asked for, damaged ones too."""

    def __init__(self, elements):
        self._elements, self.asked = elements, 0

    def __next__(self):
        self.asked += 1
        return next(self._elements)


class _Elements(_Counted):
    """Elements as dicts, going on after an error as an iterator does."""

    def __next__(self):
        return {"data": super().__next__()}


def test_examples_of_tfrecord():
    """Mutated examples through a task's preprocessors and the loader's reader."""
    rng, whole = random.Random("examples"), example_bytes(7)
    number = 400
    data = [mutate(rng, whole) if i % 4 else whole for i in range(number)]
    lengths = {"image": 16, "inputs": 24, "targets": 24}
    assert load("scenes")
    dataset = tf.data.Dataset.from_tensor_slices(data).map(to_record)
    dataset = seqio_tasks.AskFor(("overall",))(dataset, lengths)
    counter = Counter(Policy(skip=True, share=0.99))
    elements = _Counted(iter(dataset))
    read = list(seqio_loader._Reader(elements, "fuzz", counter))
    assert elements.asked == number + 1  # each once, and the end
    assert (len(read), counter.bad) == (counter.good, number - counter.good)
    assert number / 4 <= counter.good < number
    for example in read:
        assert example["image"].shape == (16, 16, 3)
        assert all(0 <= score <= 1 for score in example["scores"])


def test_files_of_tfrecord(tmp_path):
    """A file that breaks off ends the run; it must not be tried forever."""
    rng, path = random.Random("tfrecord"), str(tmp_path / "x.tfrecord")
    with tf.io.TFRecordWriter(path) as writer:
        for index in range(3):
            writer.write(example_bytes(index)[:200])
    whole = (tmp_path / "x.tfrecord").read_bytes()
    refused = 0
    for _ in range(100):
        (tmp_path / "x.tfrecord").write_bytes(mutate(rng, whole))
        counter = Counter(Policy(skip=True, share=0.5))
        elements = _Elements(iter(tf.data.TFRecordDataset(path)))
        reader = seqio_loader._Reader(elements, "fuzz", counter)
        read = attempt(lambda reader=reader: list(reader), ValueError)
        assert elements.asked <= MOST_TRIES
        refused += read is None
        assert read is None or len(read) <= 3
    assert refused > 60


def test_files_of_array_record(tmp_path):
    """A damaged shard: records come out whole, or as an error that names them."""
    record = {"uid": "a", "filename": "a.png", "prompt": "a red fish"}
    record |= {"image": encode("PNG", 16), "overall_score": 0.5}
    rows = [("train", record | {"uid": f"{i}"}) for i in range(4)]
    folder = DatasetFolder.in_data_dir(tmp_path, "consolidated", "1.0.0")
    folder.prepare()
    with folder.writing():
        tfds_records.write(folder, description="", splits=["train"], records=rows)
    [shard] = folder.dataset.glob("*array_record*")
    rng, whole = random.Random("array_record"), shard.read_bytes()
    refused = 0

    def read():
        source = Consolidated("train", tmp_path)
        return [source[i]["image"].shape for i in range(len(source))]

    assert len(read()) == 4  # and TFDS is imported
    for _ in range(60):
        shard.write_bytes(mutate(rng, whole))
        shapes = attempt(read, ValueError, calls=5 * MOST_CALLS)
        refused += shapes is None
        assert shapes is None or all(shape == (16, 16, 3) for shape in shapes)
    assert refused > 10
