"""One example of a report: image, heatmaps, words and scores beside the truth."""

import base64
import io
import json
from collections.abc import Sequence
from html import escape

import numpy as np
from PIL import Image

from rahf import images, targets, words
from rahf.evaluation.examples import JudgedExample
from rahf.images import overlays

#: The longest side of pictures, and of those that are shown twice as large.
LONGEST, _LONGEST_OWN = 512, 1024
#: Probabilities of words below this are not written out.
_SMALL = 0.1
_BEYOND = (
    "Grey words are beyond the text length, the part of a prompt that the model reads "
    "(config.input.text_length): nothing is said of them."
)


def card(example: JudgedExample, own: bool = False) -> str:
    """Returns the HTML of one example, with all text escaped.

    Args:
      example: what to show.
      own: whether it is an image of the user's, without truth: then its maps stand side
        by side and are twice as large.
    """
    image = overlays.fit(example.image, _LONGEST_OWN if own else LONGEST)
    pictures = "".join(
        _heatmap(image, name, heatmap, (example.true_heatmaps or {}).get(name))
        for name, heatmap in targets.ordered(example.heatmaps).items()
    )
    bars = "".join(
        _bar(name, score, example)
        for name, score in targets.ordered(example.scores).items()
    )
    alt = f"image for the prompt: {example.prompt}"
    shown = f'<figure class="image">{picture(image, alt)}</figure>'
    maps = f'<div class="maps">{pictures}</div>'
    about = "".join(f'<p class="about">{escape(text)}</p>' for text in example.notes)
    return (
        f'<article class="card{" own" if own else ""}"{_sortable(example)}><header>'
        f'{prompt_line(example)}<p class="name">{escape(example.name)}</p></header>'
        f'{about}<div class="parts">{shown}{maps}'
        f'<ul class="scores">{bars}</ul></div></article>'
    )


def _sortable(example: JudgedExample) -> str:
    """Returns what the page's script sorts and filters by, as attributes."""
    values = {name: round(float(x), 4) for name, x in example.scores.items()}
    for name, heatmap in example.heatmaps.items():
        values[f"peak of {name}"] = round(float(np.max(heatmap, initial=0.0)), 4)
    if len(example.words):
        marked = sum(p > example.cut for p in example.words)
        values["misaligned words"] = float(marked)
    found = {key: values[key] for key in targets.ordered(values)}
    text = f"{example.prompt} {example.name}".lower()
    return f' data-values="{escape(json.dumps(found))}" data-text="{escape(text)}"'


def keys(examples: Sequence[JudgedExample]) -> str:
    """Returns the list of what the examples' colours and marks mean."""
    compared = any(
        truth is not None
        for each in examples
        for truth in (each.true_scores, each.true_heatmaps, each.true_words)
    )
    found = (
        '<li><span class="ramp" aria-hidden="true"></span> heatmap, 0 to 1: higher is '
        f"worse; nothing is drawn below {_decimal(overlays.VISIBLE)}; the white line "
        "is the threshold, the triangle the peak</li>"
        '<li><mark class="word" style="--p:.8">word<small>.80</small></mark> predicted '
        f"misaligned, with its probability; without a number it is below "
        f"{_decimal(_SMALL)}</li>"
    )
    if compared:
        found += (
            "<li><u>word</u> misaligned according to the raters</li>"
            '<li><span class="track key" aria-hidden="true"><i class="fill" '
            'style="width:60%"></i><i class="tick" style="left:75%"></i></span> '
            "score, 0 to 1, with the raters' mean as a tick: higher is better</li>"
        )
    return f'<ul class="key">{found}</ul>'


def color_scale() -> str:
    """Returns the heatmaps' colour scale from 0 to 1, as a CSS gradient."""
    stops = ", ".join("rgb({} {} {})".format(*color) for color in images.legend()[::15])
    return f"linear-gradient(90deg, {stops})"


def _heatmap(
    image: np.ndarray, name: str, predicted: np.ndarray, true: np.ndarray | None
) -> str:
    figures = [overlay_figure(image, name, "predicted", predicted)]
    if true is not None:
        figures.append(overlay_figure(image, name, "truth", true))
    pair = " alone" if true is None else ""
    return (
        f'<section class="pair{pair}"><h4>{escape(_title(name))}{_meaning(name)}</h4>'
        f"{''.join(figures)}</section>"
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
    marks = ""
    if threshold is not None:
        marks = f'<i class="cut" style="left:{_percent(threshold)}"></i>'
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
    prompt, pieces, done, unread = example.prompt, [], 0, 0
    asked = len(example.words) > 0
    for index, (start, end) in enumerate(words.spans(prompt)):
        known = example.words[index] if index < len(example.words) else None
        unread += known is None
        true = example.true_words
        missing = true is not None and index < len(true) and true[index] > 0
        pieces.append(escape(prompt[done:start]))
        pieces.append(_word(prompt[start:end], known, missing, example.cut))
        done = end
    pieces.append(escape(prompt[done:]))
    why = ""
    if unread:
        why = _BEYOND if asked else "Words were not predicted."
        why = f'<small class="unread">{why}</small>'
    return f'<p class="prompt">{"".join(pieces) or "<i>no prompt</i>"}{why}</p>'


def _word(text: str, probability: float | None, missing: bool, cut: float) -> str:
    shown = f"<u>{escape(text)}</u>" if missing else escape(text)
    truth = "; raters: misaligned" if missing else ""
    if probability is None:
        return f'<span class="unread">{shown}</span>'
    title = f"{probability:.0%} likely misaligned{truth}"
    marked = probability > cut
    if not marked and not missing and probability < _SMALL:
        return f'<span title="{title}">{shown}</span>'
    tag = "mark" if marked else "span"
    return (
        f'<{tag} class="word" style="--p:{probability:.2f}" title="{title}">{shown}'
        f"<small>{_decimal(probability)}</small></{tag}>"
    )


def _bar(name: str, score: float, example: JudgedExample) -> str:
    tick = beside = ""
    spoken = f"predicted {score:.2f}"
    if name in example.intervals:
        low, high = example.intervals[name]
        beside += f"<small>{low:.2f} to {high:.2f}</small>"
    if (true := (example.true_scores or {}).get(name)) is not None:
        tick = f'<i class="tick" style="left:{_percent(true)}"></i>'
        beside += f"<small>truth {true:.2f}</small>"
        spoken += f", truth {true:.2f}"
    return (
        f"<li><span>{escape(_title(name))}{_meaning(name)}</span>"
        f"<b>{score:.2f}{beside}</b>"
        f'<span class="track" role="img" aria-label="{spoken}">'
        f'<i class="fill" style="width:{_percent(score)}"></i>{tick}</span></li>'
    )


def _meaning(name: str) -> str:
    text = _description(name)
    return f"<small>{escape(text)}</small>" if text else ""


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
