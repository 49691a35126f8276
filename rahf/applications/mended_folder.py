"""Predictions -> a folder of mended images, as rahf.bin.mend writes it.

request.json         what was asked for
<name>.png           the image, mended or as it was
<name>.json          what was done to it; metadata.jsonl has the same
metadata.jsonl       {"file_name", "text", "id", "seed", "scores", "areas", "why"}

Such a folder is what rahf.bin.predict takes, with another model as the judge.
"""

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from rahf import durable, images
from rahf.applications import result_folder
from rahf.applications.generating import METADATA_FILE, Generator
from rahf.applications.mending import MendedImage, MendOptions, Predict, mend
from rahf.applications.predictions import json_line, read_predictions
from rahf.applications.training_sets import Names
from rahf.inference import image_places


@dataclasses.dataclass(frozen=True, kw_only=True)
class MendRequest:
    """Which images to mend.

    Attributes:
      predictions: files or folders of predictions, which name images and prompts.
      output: the folder to write.
      options: how.
      seed: added to the number of an image, which is its seed.
      made_by: what else the result depends on, as JSON can hold it: the generator and
        the predictor.
      at_once: images to mend together.
      chosen: whether to take only the chosen images of a manifest.
    """

    predictions: Sequence[str]
    output: str
    options: MendOptions = dataclasses.field(default_factory=MendOptions)
    seed: int = 0
    made_by: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    at_once: int = 10
    chosen: bool = False


def write_mended(request: MendRequest, predict: Predict, generator: Generator) -> str:
    """Mends the images that are not done yet, and returns a summary.

    Raises:
      ValueError: an image is gone or has another size than the generator's, or the
        folder holds something else.
      GeneratorError: see `rahf.applications.mending.mend`.
    """
    found = read_predictions(request.predictions, chosen=request.chosen)
    identity = {
        "command": "mend",
        "predictions_sha256": found.digest,
        "options": dataclasses.asdict(request.options),
        "seed": request.seed,
        "made_by": dict(request.made_by),
        "chosen": request.chosen,
    }
    if result_folder.is_complete(request.output, identity):
        return f"{request.output}: complete already; nothing was written"
    with result_folder.making(request.output, identity) as folder:
        names, lines, waiting = Names(), [], []
        rows = found.rows(range(len(found)))
        with tqdm(total=len(found), unit="image", disable=None) as progress:
            for number, row in enumerate(rows):
                job = _Job(folder / names.name(row), row, request.seed + number)
                lines.append(job)
                waiting += [] if job.is_done() else [job]
                if len(waiting) == request.at_once:
                    _mend(waiting, request, predict, generator)
                    waiting = []
                progress.update()
            _mend(waiting, request, predict, generator)
        results = [job.result() for job in lines]
        with durable.writing(folder / METADATA_FILE) as temporary:
            temporary.write_bytes(b"".join(map(json_line, results)))
    return _summary(results, request)


@dataclasses.dataclass(frozen=True)
class _Job:
    """An image to mend."""

    path: pathlib.Path  # without a suffix
    row: Mapping[str, Any]
    seed: int

    def is_done(self) -> bool:
        return self._with(".json").exists()  # it is written after the picture

    def result(self) -> dict[str, Any]:
        return json.loads(self._with(".json").read_text("utf-8"))

    def _with(self, suffix: str) -> pathlib.Path:
        return self.path.with_name(self.path.name + suffix)

    def read(self, size: tuple[int, int]) -> np.ndarray:
        """Returns the pixels, uint8[H, W, 3]."""
        place = self.row["image"]
        image = images.read_image(image_places.read(place))
        if image.shape[:2] != size:
            raise ValueError(
                f"id {self.row['id']!r}: {place} has {image.shape[0]} x "
                f"{image.shape[1]} pixels, and the generator makes {size[0]} x {size[1]}"
            )
        return image

    def write(self, mended: MendedImage) -> None:
        """Writes the picture, then what was done."""
        picture = self._with(".png")
        with durable.writing(picture) as temporary:
            Image.fromarray(mended.pixels).save(temporary, format="PNG")
        rounded = lambda values: [round(value, 6) for value in values]
        line = {
            "file_name": picture.name,
            "text": self.row["prompt"],
            "id": self.row["id"],
            "seed": self.seed,
            "scores": rounded(mended.scores),
            "areas": rounded(mended.areas),
            "repainted": round(float((mended.repainted > 0).mean()), 6),
            "why": mended.why,
        }
        durable.write_text(self._with(".json"), json.dumps(line) + "\n")


def _mend(
    jobs: Sequence[_Job], request: MendRequest, predict: Predict, generator: Generator
) -> None:
    if not jobs:
        return
    done = mend(
        [job.read(generator.size) for job in jobs],
        [job.row["prompt"] for job in jobs],
        [job.seed for job in jobs],
        predict,
        generator,
        request.options,
    )
    for job, mended in zip(jobs, done, strict=True):
        job.write(mended)


def _summary(results: Sequence[Mapping[str, Any]], request: MendRequest) -> str:
    changed = [each for each in results if len(each["scores"]) > 1]
    parts = [f"{len(changed):,} of {len(results):,} images mended"]
    if changed:
        gain = np.mean([each["scores"][-1] - each["scores"][0] for each in changed])
        areas = [np.mean([each["areas"][i] for each in changed]) for i in (0, -1)]
        parts.append(
            f"their {request.options.by} up by {gain:.3f}, what is masked from "
            f"{areas[0]:.1%} to {areas[1]:.1%} of the area, by the model that mended "
            "them: judge with another"
        )
    for why, text in (("clean", "nothing to mend"), ("whole", "masked as a whole")):
        count = sum(each["why"] == why and len(each["scores"]) == 1 for each in results)
        parts += [f"{count:,} {text}"] * bool(count)
    return f"{'; '.join(parts)}; in {request.output}"
