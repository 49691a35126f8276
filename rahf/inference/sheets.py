"""One picture of all that was predicted of an image, for people to look at."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from rahf import targets
from rahf import words as prompts
from rahf.images import overlays

if TYPE_CHECKING:
    from rahf.inference.predictor import Prediction

#: The longest side of the image on the sheet, and the space around it, in pixels.
_LONGEST, _GAP = 512, 24
_TEXT, _SMALL = 24, 18
_FLAW, _TRACK, _BAR = (212, 53, 28), (226, 223, 217), (47, 93, 140)


def draw(
    image: np.ndarray,
    prompt: str,
    prediction: "Prediction",
    truth: Mapping[str, np.ndarray] | None = None,
) -> Image.Image:
    """Draws the image, its overlays, the prompt with its misaligned words, and scores.

    Pillow's own font has Latin letters alone; others become boxes.

    Args:
      image: uint8[H, W, 3].
      prompt: its prompt.
      prediction: what was predicted of it.
      truth: the true heatmaps by target, float[h, w] in [0, 1], if they are known; each
        stands after the predicted one.

    Returns:
      An RGB picture: the image beside its overlays, and the rest below.
    """
    panels = [Image.fromarray(overlays.fit(image, _LONGEST))]
    for name, heatmap in targets.ordered(prediction.heatmaps).items():
        panels.append(_overlay(image, name, heatmap, ""))
        if truth and name in truth:
            panels.append(_overlay(image, name, truth[name], ", truth"))
    width = max(sum(p.width + _GAP for p in panels) + _GAP, _LONGEST)
    pictures = max(p.height for p in panels) + 2 * _GAP
    lines = _wrap(_marked(prompt, prediction.words), width - 2 * _GAP)
    text = (len(lines) * 3 * _TEXT) // 2 + _GAP
    columns = max(1, min(width // 320, len(prediction.scores)))
    below = -(-len(prediction.scores) // columns) * 3 * _TEXT
    sheet = Image.new("RGB", (width, pictures + text + below), overlays.PAPER)
    x = _GAP
    for panel in panels:
        sheet.paste(panel, (x, _GAP))
        x += panel.width + _GAP
    pen = ImageDraw.Draw(sheet)
    _write(pen, lines, pictures)
    _draw_scores(pen, prediction, pictures + text, (width - _GAP) // columns, columns)
    return sheet


def _overlay(image: np.ndarray, name: str, heatmap, which: str) -> Image.Image:
    return overlays.overlay_picture(
        image,
        np.asarray(heatmap),
        title=f"{_title(name)}{which}",
        threshold=targets.threshold_of(name),
        longest=_LONGEST,
    )


def _title(name: str) -> str:
    return name.replace("_", " ")


def _marked(prompt: str, words) -> list[tuple[str, bool]]:
    """Returns the words of a prompt with their punctuation, and which are misaligned.

    Misaligned ones have their probability after them.
    """
    found, starts = [], [start for start, _ in prompts.spans(prompt)]
    for index, start in enumerate(starts):
        end = starts[index + 1] if index + 1 < len(starts) else len(prompt)
        text, wrong = prompt[start:end].strip(), False
        if index < len(words) and (wrong := bool(words[index].misaligned)):
            text += f" ({words[index].probability:.2f})"
        found.append((text, wrong))
    return found


def _wrap(marked: list[tuple[str, bool]], width: int) -> list[list[tuple[str, bool]]]:
    """Divides words into lines of at most this many pixels."""
    font, lines, used = ImageFont.load_default(_TEXT), [[]], 0.0
    for text, wrong in marked:
        long = font.getlength(f"{text} ")
        if lines[-1] and used + long > width:
            lines.append([])
            used = 0.0
        lines[-1].append((text, wrong))
        used += long
    return lines


def _write(pen: ImageDraw.ImageDraw, lines, top: int) -> None:
    font = ImageFont.load_default(_TEXT)
    for number, line in enumerate(lines):
        x, y = float(_GAP), top + number * 3 * _TEXT // 2
        for text, wrong in line:
            pen.text((x, y), text, _FLAW if wrong else overlays.INK, font)
            long = font.getlength(text)
            if wrong:
                pen.line((x, y + 1.2 * _TEXT, x + long, y + 1.2 * _TEXT), _FLAW, 2)
            x += font.getlength(f"{text} ")


def _draw_scores(
    pen: ImageDraw.ImageDraw,
    prediction: "Prediction",
    top: int,
    span: int,
    columns: int,
) -> None:
    """Draws each score as a bar from 0 to 1, higher is better, with its interval."""
    font = ImageFont.load_default(_SMALL)
    for number, (name, score) in enumerate(targets.ordered(prediction.scores).items()):
        x = _GAP + number % columns * span
        y = top + number // columns * 3 * _TEXT
        right, bar = x + span - _GAP, y + 1.4 * _SMALL
        said = f"{score:.2f}"
        if name in prediction.intervals:
            said += " ({:.2f} to {:.2f})".format(*prediction.intervals[name])
        pen.text((x, y), _title(name), overlays.SOFT, font)
        pen.text((right, y), said, overlays.INK, font, anchor="ra")
        pen.rectangle((x, bar, right, bar + 8), _TRACK)
        share = min(max(float(score), 0.0), 1.0)
        pen.rectangle((x, bar, x + share * (right - x), bar + 8), _BAR)
