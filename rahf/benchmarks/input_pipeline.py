"""How fast examples are made from JPEG files, and where the time goes.

Times are CPU time, not wall-clock time, so that other programs on the machine disturb
them less and threads do not hide work: a rate is per core.
"""

import functools
import importlib
import importlib.util
import io
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ml_collections
import numpy as np
from PIL import Image

from rahf import images
from rahf.datasets.scenes import Scenes
from rahf.input import grain_loader, registry, vocabulary
from rahf.input.augmentation import Augmentation
from rahf.input.converter import Converter
from rahf.input.features import FeatureMaker

#: The augmentation that is measured: everything, mildly.
AUGMENT = {"crop": 0.9, "flip": True, "colour": 0.2}

_QUALITY = 90
_BATCH = 16
# One label of each kind that takes time.
_TASKS = {"score": "overall", "heatmap": "implausibility"}
_LENGTH = 64


class JpegRecords(Sequence[Mapping[str, Any]]):
    """Scenes as encoded files: a JPEG, and a 512 x 512 map as PNG, as in RichHF.

    Args:
      size: the side of the images in pixels; above 512, scenes are enlarged.
      number: the number of different files.
      length: the number of records, which repeat the files.
      maps: whether the map is read.
    """

    def __init__(self, size: int, number: int, length: int, maps: bool = True):
        scenes = Scenes("train", min(size, 512), num_examples=number)
        self._files = [_encode(scenes[i], size) for i in range(number)]
        self._length, self._maps = length, maps

    @property
    def mean_bytes(self) -> float:
        """The mean size of the JPEG files."""
        return float(np.mean([len(jpeg) for jpeg, *_ in self._files]))

    def file(self, index: int) -> tuple[bytes, bytes, str]:
        """Returns (JPEG, PNG of the map, prompt)."""
        return self._files[index % len(self._files)]

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        jpeg, heatmap, prompt = self.file(index)
        record = {
            "uid": str(index),
            "image": images.read_image(jpeg),
            "prompt": prompt,
            "overall_score": 0.5,
        }
        return (
            record | {"artifact_map": images.read_map(heatmap)}
            if self._maps
            else record
        )


def compare(size: int, image_size: int, examples: int) -> dict[str, Any]:
    """Measures everything for one file size.

    Args:
      size: the side of the JPEG files.
      image_size: the side of the examples.
      examples: how many to make for each rate.

    Returns:
      Examples per second per core: `score` (image and prompt), `heatmap` (plus a map),
      and with `AUGMENT` `score_augmented` and `heatmap_augmented`; if PyTorch is
      installed `torch`, its loader of images alone, and `to_torch`, the ratio of
      `score` to it; `milliseconds` of each step; and the files' mean `kilobytes`.
    """
    found: dict[str, Any] = {"size": size, "image_size": image_size}
    sizes: dict[str, Any] = {**found, "examples": examples}
    found["kilobytes"] = JpegRecords(size, 4, 4).mean_bytes / 1e3
    for label in _TASKS:
        found[label] = pipeline_rate(label, **sizes)
        found[f"{label}_augmented"] = pipeline_rate(label, **sizes, augment=AUGMENT)
    if importlib.util.find_spec("torch"):
        found["torch"] = torch_rate(**sizes)
        found["to_torch"] = found["score"] / found["torch"]
    found["milliseconds"] = stages(size=size, image_size=image_size)
    return _rounded(found)


def _rounded(found: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _rounded(value)
        if isinstance(value, dict)
        else round(value, 3 if name == "to_torch" else 2)
        for name, value in found.items()
    }


def pipeline_rate(
    label: str,
    *,
    size: int,
    image_size: int,
    examples: int,
    number: int = 16,
    augment: Mapping[str, Any] | None = None,
) -> float:
    """Returns examples per second per core of the training input, batching included.

    Args:
      label: "score" (image and prompt) or "heatmap" (plus a map).
      size: the side of the JPEG files.
      image_size: the side of the examples.
      examples: how many to make.
      number: the number of different files.
      augment: a mapping like `config.input.augment`.
    """
    records = JpegRecords(size, number, max(examples, _BATCH), label == "heatmap")
    task = registry.Task(
        f"benchmark_{label}", (_TASKS[label],), lambda split, options: records
    )
    config = ml_collections.ConfigDict({"seed": 0, "task": {"name": task.name}})
    config.input = {
        "image_size": image_size,
        "text_length": _LENGTH,
        "target_length": _LENGTH,
        "workers": 0,
        "augment": augment or {},
    }
    registry.TASKS[task.name] = task
    try:
        source = grain_loader.make_train_input(
            config,
            _converter(label, image_size),
            vocabulary.load("scenes"),
            batch_size=_BATCH,
            shard_index=0,
            shard_count=1,
        )
        next(source)  # imports modules and starts threads
        batches = max(1, examples // _BATCH)
        start = time.process_time()
        for _ in range(batches):
            next(source)
        return batches * _BATCH / (time.process_time() - start)
    finally:
        del registry.TASKS[task.name]


def torch_rate(*, size: int, image_size: int, examples: int, number: int = 16) -> float:
    """Returns examples per second per core of PyTorch's DataLoader on the same files.

    It decodes and resizes the image with Pillow (bilinear) and stacks tensors: no text,
    no labels, no checks.

    Raises:
      ImportError: PyTorch is not installed.
    """
    torch = importlib.import_module("torch")
    data = importlib.import_module("torch.utils.data")
    torch.set_num_threads(1)
    records = JpegRecords(size, number, max(examples, _BATCH))

    class Files(data.Dataset):
        def __len__(self) -> int:
            return len(records)

        def __getitem__(self, index: int) -> Any:
            with Image.open(io.BytesIO(records.file(index)[0])) as image:
                rgb = image.convert("RGB")
            small = rgb.resize((image_size, image_size), Image.Resampling.BILINEAR)
            return torch.from_numpy(np.array(small))

    loader = iter(data.DataLoader(Files(), batch_size=_BATCH))
    batches = max(1, examples // _BATCH)
    start = time.process_time()
    for _ in range(batches):
        next(loader)
    return batches * _BATCH / (time.process_time() - start)


def stages(*, size: int, image_size: int, repeats: int = 20) -> dict[str, float]:
    """Returns the milliseconds of CPU time that each step of an example takes.

    "ask" is making task features, without resizing and tokenising.
    """
    records, words = JpegRecords(size, 4, 4), vocabulary.load("scenes")
    jpeg, png, prompt = records.file(0)
    image, heatmap = images.read_image(jpeg), images.read_map(png)
    small, small_map = (
        images.resize(x, (image_size, image_size)) for x in (image, heatmap)
    )
    record = {"uid": "0", "image": small, "prompt": prompt, "artifact_map": small_map}
    maker = FeatureMaker(
        vocabulary=words,
        image_size=image_size,
        text_length=_LENGTH,
        target_length=_LENGTH,
    )
    make = functools.partial(maker.make, record, ["implausibility"], augment=True)
    converter, batch = _converter("heatmap", image_size), [make()] * _BATCH
    took = {
        "decode": _time(lambda: images.read_image(jpeg), repeats),
        "resize": _time(
            lambda: images.resize(image, (image_size, image_size)), repeats
        ),
        "map decode": _time(lambda: images.read_map(png), repeats),
        "map resize": _time(
            lambda: images.resize(heatmap, (image_size, image_size)), repeats
        ),
        "tokenise": _time(lambda: words.encode_words(prompt, None), repeats),
    }
    augment = Augmentation(**AUGMENT, size=image_size)
    whole = record | {"image": image, "artifact_map": heatmap}
    took["augment"] = _time(lambda: augment(whole, 0, 0, 0), repeats)
    took["ask"] = max(0.0, _time(make, repeats) - took["tokenise"])
    took["convert"] = _time(lambda: converter(batch, _BATCH), repeats) / _BATCH
    return took


def _time(function: Callable[[], Any], repeats: int) -> float:
    """Returns the median CPU time of a call in milliseconds."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return float(np.median(times)) * 1e3


def _converter(label: str, image_size: int) -> Converter:
    return Converter(
        targets=(_TASKS[label],),
        image_size=image_size,
        text_length=_LENGTH,
        target_length=_LENGTH,
    )


def _encode(record: Mapping[str, Any], size: int) -> tuple[bytes, bytes, str]:
    jpeg, png = io.BytesIO(), io.BytesIO()
    image = images.resize(record["image"], (size, size))
    Image.fromarray(image).save(jpeg, "JPEG", quality=_QUALITY)
    heatmap = images.resize(record["artifact_map"], (512, 512))
    Image.fromarray(np.rint(heatmap * 255).astype(np.uint8)).save(png, "PNG")
    return jpeg.getvalue(), png.getvalue(), record["prompt"]
