"""One example of a report: image, heatmaps, words and scores beside the truth."""

import base64
import io
from html import escape

import numpy as np
from PIL import Image

from rahf import images, targets, words
from rahf.evaluation.examples import JudgedExample

# The largest size of pictures; small ones are enlarged so that a heatmap drawn over
# them stays smooth.
_LONGEST, _SHORTEST = 512, 256


def card(example: JudgedExample) -> str:
    """Returns the HTML of one example, with all text escaped."""
    image = fit_image(example.image)
    pictures = "".join(
        _heatmap(image, name, heatmap, (example.true_heatmaps or {}).get(name))
        for name, heatmap in targets.ordered(example.heatmaps).items()
    )
    bars = "".join(
        _bar(name, score, (example.true_scores or {}).get(name))
        for name, score in targets.ordered(example.scores).items()
    )
    alt = f"image for the prompt: {example.prompt}"
    return (
        f'<article class="card"><header>{prompt_line(example)}'
        f'<p class="name">{escape(example.name)}</p></header>'
        f'<div class="parts"><figure class="image">{picture(image, alt)}</figure>'
        f'<div class="maps">{pictures}</div>'
        f'<ul class="scores">{bars}</ul></div></article>'
    )


def color_scale() -> str:
    """Returns the heatmaps' colour scale from 0 to 1, as a CSS gradient."""
    stops = ", ".join("rgb({} {} {})".format(*color) for color in images.legend()[::15])
    return f"linear-gradient(90deg, {stops})"


def fit_image(image: np.ndarray) -> np.ndarray:
    """Returns uint8[H, W, 3] of the size in which pages show pictures."""
    height, width = image.shape[:2]
    scale = min(max(1.0, _SHORTEST / min(height, width)), _LONGEST / max(height, width))
    return images.resize(
        image, (max(1, round(height * scale)), max(1, round(width * scale)))
    )


def _heatmap(
    image: np.ndarray, name: str, predicted: np.ndarray, true: np.ndarray | None
) -> str:
    figures = [overlay_figure(image, name, "predicted", predicted)]
    if true is not None:
        figures.append(overlay_figure(image, name, "truth", true))
    pair = " alone" if true is None else ""
    return (
        f'<section class="pair{pair}"><h4 title="{escape(_description(name))}">'
        f"{escape(_title(name))}</h4>{''.join(figures)}</section>"
    )


def overlay_figure(
    image: np.ndarray, name: str, which: str, heatmap: np.ndarray
) -> str:
    """Returns a figure of a heatmap over its image; `which` says whose it is."""
    threshold = targets.threshold_of(name)
    shaded = images.overlay(image, heatmap, threshold=threshold)
    peak = float(np.max(heatmap, initial=0.0))
    alt = f"{which} {_title(name)}: highest value {peak:.2f}"
    shown = f"{which}, peak {peak:.2f}" if peak >= 0.005 else f"{which}, empty"
    marks = (
        ""
        if threshold is None
        else f'<i class="cut" style="left:{_percent(threshold)}"></i>'
    )
    marks += f'<i class="peak" style="left:{_percent(peak)}"></i>'
    return (
        f"<figure>{picture(shaded, alt)}<figcaption>"
        f'<span class="ramp" aria-hidden="true">{marks}</span>{escape(shown)}'
        "</figcaption></figure>"
    )


def picture(image: np.ndarray, alt: str) -> str:
    """Returns the `<img>` of uint8[H, W, 3], with its data."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=88, subsampling=0)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    height, width = image.shape[:2]
    return (
        f'<img src="data:image/jpeg;base64,{data}" alt="{escape(alt)}" '
        f'width="{width}" height="{height}">'
    )


def prompt_line(example: JudgedExample) -> str:
    """Returns the prompt with each word tinted by its misalignment probability."""
    prompt, pieces, done = example.prompt, [], 0
    for index, (start, end) in enumerate(words.spans(prompt)):
        known = example.words[index] if index < len(example.words) else None
        true = example.true_words
        missing = true is not None and index < len(true) and true[index] > 0
        pieces.append(escape(prompt[done:start]))
        asked = len(example.words) > 0
        pieces.append(_word(prompt[start:end], known, missing, example.cut, asked))
        done = end
    pieces.append(escape(prompt[done:]))
    return f'<p class="prompt">{"".join(pieces) or "<i>no prompt</i>"}</p>'


def _word(
    text: str, probability: float | None, missing: bool, cut: float, asked: bool
) -> str:
    shown = f"<u>{escape(text)}</u>" if missing else escape(text)
    truth = "; raters: misaligned" if missing else ""
    if probability is None:
        why = "beyond the text length" if asked else "words were not predicted"
        return f'<span class="unread" title="{why}{truth}">{shown}</span>'
    title = f"{probability:.0%} likely misaligned{truth}"
    marked = probability > cut
    if not marked and not missing and probability < 0.1:
        return f'<span title="{title}">{shown}</span>'
    tag = "mark" if marked else "span"
    return (
        f'<{tag} class="word" style="--p:{probability:.2f}" title="{title}">{shown}'
        f"<small>{_decimal(probability)}</small></{tag}>"
    )


def _bar(name: str, score: float, true: float | None) -> str:
    tick = beside = ""
    spoken = f"predicted {score:.2f}"
    if true is not None:
        tick = f'<i class="tick" style="left:{_percent(true)}"></i>'
        beside = f"<small>truth {true:.2f}</small>"
        spoken += f", truth {true:.2f}"
    return (
        f'<li title="{escape(_description(name))}"><span>{escape(_title(name))}</span>'
        f"<b>{score:.2f}{beside}</b>"
        f'<span class="track" role="img" aria-label="{spoken}">'
        f'<i class="fill" style="width:{_percent(score)}"></i>{tick}</span></li>'
    )


def _title(name: str) -> str:
    return name.replace("_", " ")


def _description(name: str) -> str:
    try:
        return targets.get(name).description
    except ValueError:  # a target of a module that is not imported
        return ""


def _percent(value: float) -> str:
    return f"{100 * min(max(value, 0.0), 1.0):.1f}%"


def _decimal(value: float) -> str:
    return f"{value:.2f}".removeprefix("0")
