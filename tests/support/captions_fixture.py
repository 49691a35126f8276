"""Shards as img2dataset writes them, small: images with captions in tars."""

import io
import json
import pathlib
import tarfile

import numpy as np
from PIL import Image


def picture(number: int, size: int = 24) -> np.ndarray:
    """uint8[size, size, 3] of one colour that tells the number."""
    return np.full((size, size, 3), (number % 256, number // 256, 128), np.uint8)


def encoded(number: int, kind: str = "PNG", size: int = 24) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture(number, size)).save(buffer, kind)
    return buffer.getvalue()


def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    """Adds a member as WebDataset's writer does, its time in fractions of seconds."""
    info = tarfile.TarInfo(name)
    info.size, info.mtime, info.mode = len(data), 1700000000.25, 0o444
    info.uname = info.gname = "bigdata"
    tar.addfile(info, io.BytesIO(data))


def sample(number: int) -> dict[str, bytes]:
    """The three parts of a sample, by ending."""
    caption = f"picture number {number}"
    fields = {
        "caption": caption,
        "url": f"http://example.com/{number}",
        "key": f"{number:09d}",
        "status": "success",
        "error_message": None,
        "width": 24,
        "height": 24,
        "original_width": 24,
        "original_height": 24,
        "exif": "{}",
    }
    return {
        "jpg": encoded(number),  # the content decides, not the ending
        "json": json.dumps(fields, indent=4).encode(),
        "txt": caption.encode(),
    }


def write_shard(
    path: pathlib.Path, first: int, number: int, change=lambda number, parts: parts
) -> pathlib.Path:
    """Writes samples `first` to `first + number - 1`, each changed as wished."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for index in range(first, first + number):
            for ending, data in sorted(change(index, sample(index)).items()):
                add(tar, f"{index:09d}.{ending}", data)
    return path


def write_shards(
    folder: pathlib.Path, shards: int, number: int, first: int = 0
) -> list[pathlib.Path]:
    """Writes `shards` tars of `number` samples each, numbered through."""
    return [
        write_shard(folder / f"{i:06d}.tar", first + i * number, number)
        for i in range(shards)
    ]
