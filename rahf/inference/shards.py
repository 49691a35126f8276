"""Shards of images: tar files, Parquet or JSONL, local or at a URL that fsspec reads."""

import dataclasses
import os
from collections.abc import Iterator, Sequence
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from rahf import strict_json
from rahf.datasets.files import tar_shards
from rahf.inference import image_places
from rahf.inference.image_places import IMAGE_COLUMNS
from rahf.inference.job_sources import PROMPT_FIELDS as PROMPT_COLUMNS


@dataclasses.dataclass(frozen=True)
class Item:
    """An image of a shard.

    Attributes:
      id: its name, unique in its shard if the shard's names are.
      image: the encoded image, or a path or URL of it.
      prompt: the text it is judged against.
      fault: why it cannot be scored, "" = nothing known.
      place: where it is, for `rahf.inference.image_places`; "" = nowhere.
    """

    id: str
    image: bytes | str
    prompt: str
    fault: str = ""
    place: str = ""


def list_shards(given: Sequence[str]) -> list[str]:
    """Returns the shards' URLs: tars as `tar_shards.list_shards` finds them, others as
    they are given.

    A named shard that is not there is listed, too: it stops none of the others.

    Raises:
      ValueError: none is there, or a pattern matches no tar.
    """
    found = []
    for url in given:
        tables = url.endswith((".parquet", ".jsonl"))
        found += [url] if tables else tar_shards.list_shards(url, may_miss=True)
    if not any("://" in url or os.path.isfile(url) for url in found):
        more = ", ..." if found[3:] else ""
        raise ValueError(
            f"none of the {len(found)} shards is there: {', '.join(found[:3])}{more}"
        )
    return found


def read_items(url: str) -> Iterator[Item]:
    """Yields the images of a shard.

    Raises:
      ValueError: the shard cannot be read, is cut, or is of an unknown kind.
    """
    ending = url.rpartition(".")[2].lower()
    if ending == "tar":
        for sample in tar_shards.read_shard(url):
            if sample.end < 0:
                raise ValueError(f"{url}: {sample.fault}")
            place = image_places.in_tar(*sample.place) if sample.place else ""
            yield Item(sample.uid, sample.image, sample.caption, sample.fault, place)
        return
    if ending not in ("parquet", "jsonl"):
        raise ValueError(f"{url}: expected a shard ending in .tar, .parquet or .jsonl")
    name = url.rsplit("/", 1)[-1].removesuffix(f".{ending}")
    try:
        with fsspec.open(url, "rb") as file:
            rows = _parquet_rows(file) if ending == "parquet" else _json_rows(file)
            for number, row in enumerate(rows):
                yield _item(url, f"{name}/{number}", number, row)
    except (OSError, pa.ArrowException, ImportError) as error:
        raise ValueError(f"{url}: cannot be read ({error})") from error


def _parquet_rows(file: Any) -> Iterator[dict]:
    found = pq.ParquetFile(file)
    wanted = {"id", *IMAGE_COLUMNS, *PROMPT_COLUMNS} & set(found.schema_arrow.names)
    for batch in found.iter_batches(batch_size=64, columns=sorted(wanted)):
        yield from batch.to_pylist()


def _json_rows(file: Any) -> Iterator[dict]:
    for number, line in enumerate(file, 1):
        try:
            row = strict_json.loads(line.decode())
        except (ValueError, RecursionError) as error:
            raise ValueError(f"line {number}: not valid JSON ({error})") from error
        yield row if isinstance(row, dict) else {}


def _item(url: str, name: str, number: int, row: dict) -> Item:
    image = next((row[c] for c in IMAGE_COLUMNS if row.get(c) is not None), None)
    prompt = next((row[c] for c in PROMPT_COLUMNS if row.get(c) is not None), None)
    if isinstance(image, dict):  # as the `datasets` library keeps images
        image = image.get("bytes") or image.get("path")
    given = row.get("id")
    name = name if given is None else str(given)
    if not isinstance(image, bytes | str) or not image or not isinstance(prompt, str):
        fault = (
            f"expected an image in one of {IMAGE_COLUMNS} and text in one of "
            f"{PROMPT_COLUMNS}; the row has {sorted(k for k, v in row.items() if v)}"
        )
        return Item(name, b"", prompt if isinstance(prompt, str) else "", fault)
    if isinstance(image, bytes):
        place = image_places.in_table(url, number)
        return Item(name, image, prompt, place=place)
    if "://" not in image:
        image = os.path.join(os.path.dirname(url), image)
    return Item(name, image, prompt, place=image_places.absolute(image))
