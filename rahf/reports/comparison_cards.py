"""One image with the answers of several models beside the truth."""

import itertools
from collections.abc import Mapping
from html import escape

import numpy as np

from rahf import images, targets
from rahf.evaluation.examples import JudgedExample
from rahf.images import overlays
from rahf.reports import cards

#: Maps side by side, at most.
_MOST = 5


def card(models: Mapping[str, JudgedExample], number: int) -> str:
    """Returns the HTML of an image that every model has judged.

    Args:
      models: the judged example by model, of one image.
      number: its place on the page, by which the page's script finds it.
    """
    example = next(iter(models.values()))
    image = overlays.fit(example.image, cards.LONGEST)
    alt = f"image for the prompt: {example.prompt}"
    strips = "".join(_strip(image, name, models) for name in _names(models, "heatmaps"))
    return (
        f'<article class="card versus" data-number="{number}"><header>'
        f'<p class="name">{escape(example.name)}</p></header>'
        f'<div class="parts"><figure class="image">{cards.picture(image, alt)}</figure>'
        f'<div class="strips">{strips}</div>'
        f'<div class="told">{_scores(models)}{_prompts(models)}</div></div></article>'
    )


def _names(models: Mapping[str, JudgedExample], field: str) -> list[str]:
    """Returns the targets that any model has, in the table's order."""
    found = (getattr(example, field) for example in models.values())
    return list(targets.ordered(dict.fromkeys(itertools.chain.from_iterable(found))))


def _strip(image: np.ndarray, name: str, models: Mapping[str, JudgedExample]) -> str:
    figures = []
    for model, example in models.items():
        if not figures and name in (example.true_heatmaps or {}):
            truth = (example.true_heatmaps or {})[name]
            figures.append(cards.overlay_figure(image, name, "truth", truth))
        if name in example.heatmaps:
            heatmap = example.heatmaps[name]
            figures.append(cards.overlay_figure(image, name, model, heatmap))
    title = escape(name.replace("_", " "))
    return (
        f'<section class="strip" style="--n:{min(len(figures), _MOST)}"><h4>{title}</h4>'
        f"{''.join(figures)}</section>"
    )


def _scores(models: Mapping[str, JudgedExample]) -> str:
    names = _names(models, "scores")
    if not names:
        return ""
    head = "".join(f'<th scope="col">{escape(model)}</th>' for model in models)
    body = ""
    for name in names:
        truths = [(each.true_scores or {}).get(name) for each in models.values()]
        truth = next((value for value in truths if value is not None), None)
        cells = [truth, *(each.scores.get(name) for each in models.values())]
        body += f'<tr><th scope="row">{escape(name.replace("_", " "))}</th>' + "".join(
            f"<td>{'–' if value is None else f'{value:.2f}'}</td>" for value in cells
        )
        body += "</tr>"
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="scores"><table>'
        f'<thead><tr><td></td><th scope="col">truth</th>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _prompts(models: Mapping[str, JudgedExample]) -> str:
    return "".join(
        f'<div class="said"><h4>{escape(model)}</h4>{cards.prompt_line(example)}</div>'
        for model, example in models.items()
    )


def apart(one: JudgedExample, other: JudgedExample) -> dict[str, float]:
    """Returns how far two models' answers on an image lie apart, by target.

    Of scores the difference, of words the largest difference of a probability, of
    heatmaps the root of the mean squared difference.
    """
    found = {
        name: abs(value - other.scores[name])
        for name, value in one.scores.items()
        if name in other.scores
    }
    for name, heatmap in one.heatmaps.items():
        if name in other.heatmaps:
            second = np.asarray(other.heatmaps[name], np.float32)
            size = (second.shape[0], second.shape[1])
            first = images.resize(np.asarray(heatmap, np.float32), size)
            found[name] = float(np.sqrt(np.mean((first - second) ** 2)))
    shared = min(len(one.words), len(other.words))
    if shared:
        first, second = (np.array(each.words[:shared]) for each in (one, other))
        found["words"] = float(np.abs(first - second).max())
    return found
