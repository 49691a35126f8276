"""A folder of predictions as rahf.bin.predict writes it, without a model."""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from rahf import images
from rahf.inference import image_stamps

#: Three prompts: two images each, and one alone.
ROWS = (
    ("a red cat", {"plausibility": 0.9, "alignment": 0.2, "overall": 0.5}),
    ("a red cat", {"plausibility": 0.6, "alignment": 0.8, "overall": 0.7}),
    (' a "blue", dog\n', {"plausibility": 0.4, "alignment": 0.9, "overall": 0.9}),
    ('a "blue", dog', {"plausibility": 0.7, "alignment": 0.9, "overall": 0.8}),
    ("a house", {"plausibility": 0.8, "alignment": 0.7, "overall": 0.6}),
)


def write(
    folder: pathlib.Path,
    rows: Sequence[tuple[str, Mapping[str, float]]] = ROWS,
    *,
    size: tuple[int, int] = (40, 60),
    **fields: Any,
) -> pathlib.Path:
    """Writes images, heatmaps and predictions.jsonl; returns the folder.

    Args:
      folder: the folder; made if it does not exist.
      rows: prompt and scores of each image; ids are "0", "1", ...
      size: height and width of the images.
      **fields: fields of every line.
    """
    (folder / "heatmaps").mkdir(parents=True, exist_ok=True)
    lines = []
    for number, (prompt, scores) in enumerate(rows):
        path = folder / f"{number}.png"
        pixels = np.full((*size, 3), (10 * number % 256, number, 0), np.uint8)
        Image.fromarray(pixels).save(path)
        heatmap = np.zeros(size, np.float32)
        heatmap[10:20, 20:30] = 0.5 if number % 2 == 0 else 0.0
        names = {}
        for name, values in (
            ("implausibility", heatmap),
            ("misalignment", heatmap[::-1]),
        ):
            names[name] = f"heatmaps/{number}.{name}.png"
            images.write_heatmap(folder / names[name], values)
        words = prompt.split()
        row = {
            "id": str(number),
            "image": str(path.absolute()),
            **image_stamps.stamp(str(path)),
            "image_size": list(size),
            "prompt": prompt,
            "scores": dict(scores),
            "words": [
                {"text": word, "probability": 0.5, "misaligned": word == "red"}
                for word in words
            ],
            "heatmaps": names,
            "overlays": {},
            "checkpoint": "/runs/x, step 5",
            "checkpoint_digest": "files:1",
            **fields,
        }
        lines.append(json.dumps(row) + "\n")
    (folder / "predictions.jsonl").write_text("".join(lines))
    return folder


def edit(folder: pathlib.Path, number: int, **fields: Any) -> None:
    """Changes fields of a line of predictions.jsonl."""
    path = folder / "predictions.jsonl"
    lines = path.read_text().splitlines()
    lines[number] = json.dumps(json.loads(lines[number]) | fields)
    path.write_text("\n".join(lines) + "\n")
