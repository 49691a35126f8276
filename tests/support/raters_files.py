"""Raters' files with everything that a line can hold, on images of any shape."""

import pathlib
from typing import Any

import numpy as np
from PIL import Image

from rahf import words

#: No side is a power of two; width and height.
SIZES = {
    "a.png": (49, 30),
    "b/c d.png": (307, 211),
    "e.png": (1000, 3),
    "f.png": (7, 9),
}
PROMPTS = {
    "a.png": 'a "red" cat, 💩 and an élan',
    "b/c d.png": "",
    "e.png": "<b>two</b> dogs",
    "f.png": None,
}
RATERS = ("r1", "ann@example.org", "7")


def write_images(folder: pathlib.Path) -> pathlib.Path:
    """Writes the images into a folder, and returns it."""
    for name, size in SIZES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size).save(folder / name)
    return folder


def make_rows(seed: int = 0, points: int = 6) -> list[dict[str, Any]]:
    """Returns lines of a raters' file, in no order of images.

    Points are whole pixels, thousandths of them, doubles of any number of digits, and
    the ends of the sides.
    """
    dice = np.random.default_rng(seed)
    rows = []
    for rater in RATERS:
        for name, (width, height) in SIZES.items():
            row: dict[str, Any] = {"image": name, "rater": rater}
            if PROMPTS[name] is not None:
                row["prompt"] = PROMPTS[name]
            count = len(words.split(PROMPTS[name] or ""))
            for field in ("implausible_points", "misaligned_points"):
                row[field] = [
                    [_share(dice, width), _share(dice, height)]
                    for _ in range(dice.integers(0, points))
                ]
            some = [n for n in range(count) if dice.uniform() < 0.4]
            if PROMPTS[name]:
                row["misaligned_words"] = some
            scores = ("plausibility", "alignment", "aesthetics", "overall")
            row["scores"] = {s: int(dice.integers(1, 6)) for s in scores}
            row["seconds"] = float(dice.uniform(1, 100))
            rows.append(row)
    rows[0] |= {"notes": "a\nb", "split": "train", "guess_shown": True}
    rows[len(SIZES)]["split"] = rows[2 * len(SIZES)]["split"] = "train"
    rows[1]["notes"] = {"any": [1, None]}
    rows[2]["scores"] = {"overall": 2.5, "alignment": None}
    rows[3] = {"image": "f.png", "rater": 12, "scores": {"overall": 1}, "seconds": None}
    rows[5] |= {"implausible_points": [], "misaligned_points": []}
    del rows[6]["misaligned_points"], rows[6]["seconds"]
    return rows


def _share(dice: np.random.Generator, side: int) -> float:
    pixel = dice.uniform(0, side)
    pixel = (pixel, round(pixel, 3), round(pixel), 0, side)[dice.integers(0, 5)]
    return float(pixel) / side
