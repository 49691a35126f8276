"""Predictions -> a ranked list for people, as rahf.bin.rank writes it.

request.json    what was asked for
ranked.jsonl    the lines of the predictions, the best first, with `rank` and `value`
ranked.csv      the same as a table
index.html      the page: sort by any score, filter by prompt, enlarge
pictures/       a JPEG per image, which the page loads as it is scrolled
"""

import csv
import dataclasses
import json
import pathlib
import string
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from rahf import durable, images, targets, words
from rahf.applications import result_folder
from rahf.applications.predictions import (
    Predictions,
    json_line,
    read_predictions,
    why_unusable,
)
from rahf.applications.selection import WeightedScores
from rahf.applications.training_sets import Names
from rahf.inference import image_places
from rahf.reports import run_page


@dataclasses.dataclass(frozen=True, kw_only=True)
class RankRequest:
    """What to rank and show.

    Attributes:
      predictions: files or folders of predictions, or the manifest of a selection.
      sort_by: the score, or sum of scores, to rank by.
      output: the folder to write.
      top: how many images to list; 0 = all.
      worst: whether the lowest come first.
      chosen: whether only the chosen images of a manifest are listed.
      sheet: whether to write the page and its pictures.
      size: the longest side of a picture, in pixels; smaller images keep their size.
      title: the title of the page.
      on_error: "fail", or "skip" to leave out images that are gone or changed.
    """

    predictions: Sequence[str]
    sort_by: WeightedScores
    output: str
    top: int = 0
    worst: bool = False
    chosen: bool = False
    sheet: bool = True
    size: int = 512
    title: str = "Ranked images"
    on_error: str = "fail"


def write_ranking(request: RankRequest) -> str:
    """Ranks images, writes the lists and the page, and returns a summary.

    Copies of an image with the same prompt are listed once.

    Raises:
      ValueError: an image is gone, or the folder holds something else.
    """
    names = tuple(request.sort_by.weights)
    found = read_predictions(
        request.predictions, names, on_error=request.on_error, chosen=request.chosen
    )
    identity = _identity(request, found)
    if result_folder.is_complete(request.output, identity):
        return f"{request.output}: complete already; nothing was written"
    values = request.sort_by.of(names, found.scores)
    ranked, gone = _order(request, found, values)
    plan = " ".join(map(str, ranked)) if gone else ""
    with result_folder.making(request.output, identity, plan) as folder:
        _write_lists(folder, found, ranked, values)
        if request.sheet:
            _write_sheet(folder, request, found, ranked, values)
    parts = [f"{len(ranked):,} of {len(found):,} images by {request.sort_by}"]
    copies = int((~found.distinct).sum())
    parts += [f"{copies:,} copies of an image of the same prompt"] * bool(copies)
    parts += [f"{gone:,} images gone or changed"] * bool(gone)
    return f"{request.output}: {'; '.join(parts)}"


def _identity(request: RankRequest, found: Predictions) -> dict[str, Any]:
    asked = dataclasses.asdict(request)
    del asked["output"], asked["predictions"]
    return {"command": "rank", "predictions_sha256": found.digest, **asked}


def _order(
    request: RankRequest, found: Predictions, values: np.ndarray
) -> tuple[list[int], int]:
    """Returns the images to list, in order, and how many are gone."""
    numbers = np.flatnonzero(found.distinct)
    keys = values[numbers] if request.worst else -values[numbers]
    numbers = numbers[np.argsort(keys, kind="stable")].tolist()
    top = request.top or len(numbers)
    if not request.sheet:
        return numbers[:top], 0
    kept, gone = [], []
    for number, row in zip(numbers, found.rows(numbers), strict=True):
        if len(kept) == top:
            break
        fault = why_unusable(row)
        if not fault:
            kept.append(number)
            continue
        gone.append(f"{row['image']}: {fault}")
        if request.on_error != "skip":
            raise ValueError(
                f"{gone[0]}; nothing was written; use --on_error=skip to leave such "
                "images out, or --no_sheet for the lists alone"
            )
    if not kept:
        raise ValueError(f"{gone[0]}; no image is left ({len(gone)} are gone)")
    return kept, len(gone)


def _ranked_rows(
    found: Predictions, ranked: Sequence[int], values: np.ndarray
) -> Iterator[dict[str, Any]]:
    """Yields the lines in order; `rank` and `value` come first."""
    for place, (number, row) in enumerate(
        zip(ranked, found.rows(ranked), strict=True), 1
    ):
        row |= {"rank": place, "value": round(float(values[number]), 6)}
        yield {"rank": row.pop("rank"), "value": row.pop("value"), **row}


def _write_lists(
    folder: pathlib.Path, found: Predictions, ranked: Sequence[int], values: np.ndarray
) -> None:
    scored = (name for row in found.rows(ranked) for name in row["scores"])
    names = list(targets.ordered(dict.fromkeys(scored)))
    columns = ["rank", "value", "id", "image", "prompt", *names, "misaligned words"]
    with (
        durable.writing(folder / "ranked.jsonl") as lines,
        durable.writing(folder / "ranked.csv") as table,
        lines.open("wb") as file,
        table.open("w", encoding="utf-8", errors="backslashreplace", newline="") as out,
    ):
        rows = csv.writer(out)
        rows.writerow(columns)
        for row in _ranked_rows(found, ranked, values):
            file.write(json_line(row))
            wrong = [w["text"] for w in row.get("words") or () if w.get("misaligned")]
            cells = [row["rank"], row["value"], row["id"], row["image"], row["prompt"]]
            cells += [row["scores"].get(name) for name in names]
            rows.writerow([*cells, " ".join(wrong)])


def _write_sheet(
    folder: pathlib.Path,
    request: RankRequest,
    found: Predictions,
    ranked: Sequence[int],
    values: np.ndarray,
) -> None:
    (folder / "pictures").mkdir(exist_ok=True)
    shown, scores, names = [], {}, Names()
    rows = _ranked_rows(found, ranked, values)
    for row in tqdm(rows, total=len(ranked), unit="picture", disable=None):
        file = f"pictures/{names.name(row)}.jpg"
        width, height = _write_picture(folder / file, row["image"], request.size)
        scores |= dict.fromkeys(row["scores"])
        shown.append(
            {
                "file": file,
                "size": [width, height],
                "id": row["id"],
                "image": row["image"],
                "prompt": _pieces(row),
                "value": row["value"],
                "scores": row["scores"],
                "chosen": row.get("chosen"),
                "reason": row.get("reason"),
            }
        )
    by = str(request.sort_by)
    data = {"by": by, "names": list(targets.ordered(scores)), "rows": shown}
    # "<" must not end the script element; JSON has it in strings alone.
    text = json.dumps(data, ensure_ascii=True).replace("<", "\\u003c")
    own = resources.files("rahf.reports")
    page = string.Template((own / "contact_sheet.html").read_text("utf-8"))
    section = page.substitute(
        style=(own / "contact_sheet.css").read_text("utf-8"),
        script=(own / "contact_sheet.js").read_text("utf-8"),
        data=text,
    )
    order = "lowest" if request.worst else "highest"
    facts = {
        "Images": f"{len(ranked):,} of {len(found):,}",
        "Ranked by": f"{by}, {order} first",
        "Checkpoint": found.row(0).get("checkpoint") or "not recorded",
    }
    run_page.write_page(
        folder / "index.html", title=request.title, facts=facts, sections=[section]
    )


def _write_picture(path: pathlib.Path, image: str, size: int) -> tuple[int, int]:
    """Writes a JPEG for the page, unless it is there; returns width and height."""
    if path.exists():
        with Image.open(path) as known:
            return known.size
    known = image if image_places.is_file(image) else image_places.read(image)
    picture = Image.fromarray(images.read_image(known))
    picture.thumbnail((size, size))
    with durable.writing(path) as temporary:
        picture.save(temporary, "JPEG", quality=85)
    return picture.size


def _pieces(row: Mapping[str, Any]) -> list[str]:
    """Divides a prompt so that every second piece is misaligned: ["a ", "red", " cat"].

    A page's script counts characters differently from Python.
    """
    prompt, pieces, done = row["prompt"], [], 0
    known = row.get("words") or ()
    for (start, end), word in zip(words.spans(prompt), known, strict=False):
        if word.get("misaligned"):
            pieces += [prompt[done:start], prompt[start:end]]
            done = end
    return [*pieces, prompt[done:]]
