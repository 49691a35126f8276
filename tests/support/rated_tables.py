"""A table of rated images, as CSV with paths and as Parquet with bytes."""

import csv
import io

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from rahf.datasets.rated_images import make_records

MAPPING = "mos:1-5->overall, dmos:100-0->plausibility"
HEADER = ["image", "prompt", "mos", "dmos", "part"]


def jpeg(value, size=(40, 30)):
    buffer = io.BytesIO()
    Image.new("RGB", size, (value,) * 3).save(buffer, "JPEG")
    return buffer.getvalue()


def rows_of():
    """24 images of 8 prompts; each fourth lacks a score."""
    for i in range(24):
        mos = "" if i % 4 == 3 else str(1 + i % 5)
        part = "test" if i % 8 == 0 else "val" if i % 8 == 1 else "train"
        yield [f"images/{i}.jpg", f"a cat, number {i % 8}", mos, str(4 * i), part]


def write_folder(folder):
    """Images and ratings.csv."""
    (folder / "images").mkdir()
    for i in range(24):
        (folder / "images" / f"{i}.jpg").write_bytes(jpeg(10 * i))
    with (folder / "ratings.csv").open("w", newline="") as file:
        csv.writer(file).writerows([HEADER, *rows_of()])
    return folder


def options_of(path, **options):
    rated = {"path": str(path), "targets": MAPPING, "cut": "hash", **options}
    return {"image_size": 16, "rated_images": rated}


def all_records(path, **options):
    """Records of all splits by uid."""
    found = [
        {
            record["uid"]: record
            for record in make_records(split, options_of(path, **options))
        }
        for split in ("train", "dev", "test")
    ]
    assert sum(map(len, found)) == len(found[0] | found[1] | found[2])
    return found


def write_shards(made):
    """The same as Parquet: encoded images, two files, small row groups."""
    rows = list(rows_of())
    table = pa.table(
        {
            "image": [{"bytes": jpeg(10 * i), "path": None} for i in range(24)],
            "prompt": [row[1] for row in rows],
            "mos": [float(row[2]) if row[2] else None for row in rows],
            "dmos": [float(row[3]) for row in rows],
        }
    )
    pq.write_table(
        table.slice(0, 16), made / "train-00000-of-1.parquet", row_group_size=5
    )
    pq.write_table(table.slice(16), made / "test-00000-of-1.parquet", row_group_size=5)
    return made


def write_table(tmp_path, *rows, header=HEADER, name="t.csv"):
    path = tmp_path / name
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path
