"""Predictions -> a folder of inpainting masks, as rahf.bin.masks does.

request.json         what was asked for
masks.jsonl          one line per image: its mask, how much it covers and where
masks/<name>.png     8-bit grey, 255 = repaint, in the image's own size
"""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from rahf import durable, images
from rahf.applications import result_folder, scored_shards
from rahf.applications.masks import MaskOptions, describe_mask, make_mask
from rahf.applications.predictions import Predictions, json_line, read_predictions
from rahf.applications.training_sets import Names


@dataclasses.dataclass(frozen=True, kw_only=True)
class MasksRequest:
    """Which masks to make.

    Attributes:
      predictions: files or folders of predictions.
      output: the folder to write.
      heatmaps: the heatmaps whose union is taken.
      options: how the masks are made.
      skip_empty: whether images without a mask get no line and no file.
      chosen: whether only the chosen images of a manifest get one.
      on_error: "fail", or "skip" to leave out images whose heatmaps are gone.
    """

    predictions: Sequence[str]
    output: str
    heatmaps: Sequence[str] = ("implausibility",)
    options: MaskOptions = dataclasses.field(default_factory=MaskOptions)
    skip_empty: bool = False
    chosen: bool = False
    on_error: str = "fail"


def write_masks(request: MasksRequest) -> str:
    """Makes the masks of all images, and returns a summary.

    Raises:
      ValueError: a heatmap is gone or damaged, or the folder holds something else.
    """
    found = read_predictions(
        request.predictions, on_error=request.on_error, chosen=request.chosen
    )
    identity = _identity(request, found)
    if result_folder.is_complete(request.output, identity):
        return f"{request.output}: complete already; nothing was written"
    there, gone = _check(request, found)
    counts = {"empty": 0, "full": 0, None: 0}
    areas = []
    with (
        result_folder.making(request.output, identity) as folder,
        durable.writing(folder / "masks.jsonl") as temporary,
        temporary.open("wb") as file,
    ):
        (folder / "masks").mkdir(exist_ok=True)
        names, rows = Names(), found.rows(there)
        for row in tqdm(rows, total=len(there), unit="mask", disable=None):
            line = _write_mask(folder, request, row, names.name(row))
            counts[line["flag"]] += 1
            areas.append(line["area"])
            if line["flag"] == "empty" and request.skip_empty:
                (folder / line["mask"]).unlink(missing_ok=True)
            else:
                file.write(json_line(line))
    parts = [f"{len(there):,} masks, {np.mean(areas):.1%} of the area on average"]
    parts += [f"{counts['empty']:,} cover nothing"] * bool(counts["empty"])
    parts[-1] += " (left out)" if counts["empty"] and request.skip_empty else ""
    parts += [f"{counts['full']:,} cover nearly everything"] * bool(counts["full"])
    parts += [f"{gone:,} images without heatmap were left out"] * bool(gone)
    return f"{request.output}: {'; '.join(parts)}"


def _identity(request: MasksRequest, found: Predictions) -> dict[str, Any]:
    asked = dataclasses.asdict(request)
    del asked["output"], asked["predictions"]
    return {"command": "masks", "predictions_sha256": found.digest, **asked}


def _check(request: MasksRequest, found: Predictions) -> tuple[list[int], int]:
    """Returns the images whose heatmaps are all there, and how many are not."""
    there, gone = [], []
    for number, row in enumerate(found.rows(range(len(found)))):
        paths = row["heatmaps"]
        lacks = [name for name in request.heatmaps if name not in paths]
        if lacks:
            reason = f"no heatmap {lacks[0]!r}; it has {', '.join(paths) or 'none'}"
        else:
            absent = [
                paths[name]
                for name in request.heatmaps
                if not scored_shards.has_heatmap(paths[name])
            ]
            reason = f"{absent[0]}: no such file" if absent else ""
        if reason:
            gone.append(f"id {row['id']!r}: {reason}")
        else:
            there.append(number)
    if gone and (request.on_error != "skip" or not there):
        others = f" (and {len(gone) - 1} more images)" if gone[1:] else ""
        raise ValueError(
            f"{gone[0]}{others}; nothing was written; use --on_error=skip to leave "
            "such images out"
        )
    return there, len(gone)


def _write_mask(
    folder: pathlib.Path, request: MasksRequest, row: Mapping[str, Any], name: str
) -> dict[str, Any]:
    """Writes one mask, unless it is there, and returns its line."""
    file = f"masks/{name}.png"
    if (folder / file).exists():
        with Image.open(folder / file) as image:
            mask = np.asarray(image)
    else:
        maps = [
            scored_shards.read_heatmap(row["heatmaps"][key]) for key in request.heatmaps
        ]
        if size := row.get("image_size"):  # they may be of the model's size
            height, width = size
            maps = [images.resize(each, (height, width)) for each in maps]
        mask = make_mask(maps, request.options)
        with durable.writing(folder / file) as temporary:
            Image.fromarray(mask).save(temporary, "PNG")
    return {
        "id": row["id"],
        "image": row["image"],
        "prompt": row["prompt"],
        "mask": file,
        "size": list(mask.shape),
        **describe_mask(mask),
    }
