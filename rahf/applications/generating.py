"""Prompts -> a folder of generated images, as rahf.bin.generate writes it.

request.json             what was asked for
000012-3.png             the image of prompt 12 and seed 3
metadata.jsonl           {"file_name": "000012-3.png", "text": prompt, "seed": 3}

Such a folder is what rahf.bin.predict takes, and what trainers of the `datasets` library
read.
"""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from PIL import Image
from tqdm import tqdm

from rahf import durable
from rahf.applications import result_folder
from rahf.applications.predictions import json_line

METADATA_FILE = "metadata.jsonl"


class Generator(Protocol):
    """What makes and mends images; `rahf.generators` has some.

    Attributes:
      size: (height, width) of its images in pixels.
    """

    size: tuple[int, int]

    def generate(
        self, prompts: Sequence[str], seeds: Sequence[int]
    ) -> list[np.ndarray]:
        """Returns a uint8[H, W, 3] image for each prompt and seed, which determine it."""
        ...

    def inpaint(
        self,
        images: Sequence[np.ndarray],
        masks: Sequence[np.ndarray],
        prompts: Sequence[str],
        seeds: Sequence[int],
    ) -> list[np.ndarray]:
        """Returns the images, uint8[H, W, 3], repainted where their masks, float[H, W],
        are above 0, and with the same pixels where they are 0."""
        ...


class GeneratorError(ValueError):
    """A generator did not return what it was asked for."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class GenerateRequest:
    """Which images to make.

    Attributes:
      prompts: the prompts.
      output: the folder to write.
      samples: images a prompt; they have the seeds from `seed` on.
      seed: the first seed.
      made_by: what else the images depend on, as JSON can hold it: the generator, its
        step and its options.
      at_once: images to ask the generator for at a time.
    """

    prompts: Sequence[str]
    output: str
    samples: int = 1
    seed: int = 0
    made_by: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    at_once: int = 20


def write_images(request: GenerateRequest, generator: Generator) -> str:
    """Generates the images that are not there yet, and returns a summary.

    Interrupted and called again with the same request, it goes on.

    Raises:
      GeneratorError: the generator returned images of another number, size or type.
      ValueError: the folder holds something else.
    """
    identity = {
        "prompts": list(request.prompts),
        "samples": request.samples,
        "seed": request.seed,
        "made_by": dict(request.made_by),
    }
    if result_folder.is_complete(request.output, identity):
        return f"{request.output}: complete already; nothing was written"
    with result_folder.making(request.output, identity) as folder:
        rows = list(_rows(request))
        missing = [row for row in rows if not (folder / row["file_name"]).exists()]
        with tqdm(
            total=len(rows),
            initial=len(rows) - len(missing),
            unit="image",
            disable=None,
        ) as progress:
            for start in range(0, len(missing), request.at_once):
                some = missing[start : start + request.at_once]
                _make(generator, some, folder)
                progress.update(len(some))
        with durable.writing(folder / METADATA_FILE) as temporary:
            temporary.write_bytes(b"".join(json_line(row) for row in rows))
    return (
        f"{len(rows):,} images of {len(request.prompts):,} prompts in {request.output}"
    )


def _rows(request: GenerateRequest):
    for index, prompt in enumerate(request.prompts):
        for seed in range(request.seed, request.seed + request.samples):
            name = f"{index:06}-{seed}.png"
            yield {"file_name": name, "text": prompt, "seed": seed}


def _make(
    generator: Generator, rows: Sequence[Mapping[str, Any]], folder: pathlib.Path
) -> None:
    images = generator.generate(
        [row["text"] for row in rows], [row["seed"] for row in rows]
    )
    check_number(images, len(rows))
    for index, (row, image) in enumerate(zip(rows, images, strict=True)):
        # Each is checked when those before it are written: they are not at fault.
        check_image(image, index, len(rows), generator.size)
        with durable.writing(folder / row["file_name"]) as temporary:
            Image.fromarray(image).save(temporary, format="PNG")


def check_images(images: Any, count: int, size: tuple[int, int]) -> None:
    """Raises GeneratorError unless these are `count` uint8[H, W, 3] images of a size."""
    check_number(images, count)
    for index, image in enumerate(images):
        check_image(image, index, count, size)


def check_number(images: Any, count: int) -> None:
    """Raises GeneratorError unless these are `count` images, whatever each is."""
    if not isinstance(images, Sequence | np.ndarray) or isinstance(images, str | bytes):
        raise GeneratorError(
            f"the generator returned {_describe(images)}; expected a list of {count} "
            "images"
        )
    if len(images) != count:
        raise GeneratorError(
            f"the generator returned {len(images)} images where {count} were asked for"
        )


def check_image(image: Any, index: int, count: int, size: tuple[int, int]) -> None:
    """Raises GeneratorError unless an image of a generator is uint8[H, W, 3] of a size.

    Args:
      image: what the generator returned.
      index, count: its place among the images asked for, for the message.
      size: (height, width).
    """
    fits = isinstance(image, np.ndarray) and image.dtype == np.uint8
    if not fits or image.shape != (*size, 3):
        raise GeneratorError(
            f"the generator returned {_describe(image)} as image {index} of {count}; "
            f"expected uint8{[*size, 3]}"
        )


def _describe(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{list(value.shape)}"
    name = f"{type(value).__module__}.{type(value).__qualname__}"
    return name.removeprefix("builtins.")
