"""The yield of every threshold as an SVG file of its own."""

import pathlib
from html import escape

import numpy as np

from rahf import durable
from rahf.applications.selection import Choice, YieldCurve
from rahf.reports.charts import nice_ticks

_WIDTH, _HEIGHT = 560, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 20, 46, 44
# More points than pixels would only make the file larger.
_MOST_POINTS = 400


def write_chart(folder: pathlib.Path, choice: Choice, by: str) -> None:
    """Writes `yield.svg`: the share of prompts that keep an image, by threshold.

    Args:
      folder: the folder.
      choice: the choice, whose threshold is marked by a line.
      by: the name of the value that the threshold is on.
    """
    text = draw(choice.curve, choice.threshold, by)
    durable.write_text(folder / "yield.svg", text)


def draw(curve: YieldCurve, threshold: float | None, by: str) -> str:
    """Returns the chart as SVG; see `write_chart`.

    The curve has at least one value; a threshold of None is not marked.
    """
    shown = [float(curve.best[-1]), float(curve.best[0])]
    ticks = nice_ticks([*shown, *([] if threshold is None else [threshold])])
    low, high = ticks[0], ticks[-1]

    def x_of(value: float) -> float:
        return _LEFT + (value - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT)

    def y_of(share: float) -> float:
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)

    parts = [
        f'<path class="grid" d="M{_LEFT} {y_of(share):.1f}H{_WIDTH - _RIGHT}"/>'
        f'<text x="{_LEFT - 8}" y="{y_of(share) + 4:.1f}" text-anchor="end">'
        f"{share:.0%}</text>"
        for share in (0, 0.25, 0.5, 0.75, 1)
    ]
    parts += [
        f'<text x="{x_of(tick):.1f}" y="{_HEIGHT - _BOTTOM + 20}" '
        f'text-anchor="middle">{tick:g}</text>'
        for tick in ticks
    ]
    parts.append(f'<path class="line" d="{_steps(curve, x_of, y_of, low, high)}"/>')
    title = f"{curve.prompts:,} prompts: the share that keeps an image"
    if threshold is not None:
        prompts, images = curve.at(threshold)
        title = f"{prompts:,} of {curve.prompts:,} prompts keep {images:,} images"
        parts.append(
            f'<path class="cut" d="M{x_of(threshold):.1f} {_TOP}V{_HEIGHT - _BOTTOM}"/>'
        )
    axis = f"threshold of {by}" + (
        "" if threshold is None else f"; used: {threshold:.4g}"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        f'width="{_WIDTH}" height="{_HEIGHT}" role="img" '
        f'aria-label="{escape(title)}">{_STYLE}'
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fbfaf8"/>'
        f'<text class="title" x="16" y="26">{escape(title)}</text>{"".join(parts)}'
        f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{_HEIGHT - 6}" '
        f'text-anchor="middle">{escape(axis)}</text></svg>\n'
    )


_STYLE = (
    "<style>text{font:12px system-ui,sans-serif;fill:#66625b}"
    ".title{font-size:15px;font-weight:600;fill:#1d1c1a}"
    "path{fill:none}.grid{stroke:#e4e0d8}.line{stroke:#2f5d8c;stroke-width:2}"
    ".cut{stroke:#d4351c;stroke-width:1.5;stroke-dasharray:5 4}</style>"
)


def _steps(curve: YieldCurve, x_of, y_of, low: float, high: float) -> str:
    """Returns the path of the curve, from the lowest threshold to the highest."""
    number = len(curve.best)
    ranks = np.unique(np.linspace(0, number - 1, min(number, _MOST_POINTS)).astype(int))
    points = [(low, number)]
    for rank in ranks[::-1]:
        points.append((float(curve.best[rank]), curve.at(float(curve.best[rank]))[0]))
    at = f"M{x_of(points[0][0]):.1f} {y_of(points[0][1] / curve.prompts):.1f}"
    for value, passing in points[1:]:
        at += f"V{y_of(passing / curve.prompts):.1f}H{x_of(value):.1f}"
    return f"{at}V{y_of(0):.1f}H{x_of(high):.1f}"
