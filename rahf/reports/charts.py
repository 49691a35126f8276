"""Line charts as inline SVG: no plotting library, no script, one font with the page."""

import math
from collections.abc import Mapping, Sequence
from html import escape

Points = Sequence[tuple[float, float]]

# Units of the view box. A desktop page has three charts side by side and a phone one,
# both at about this many pixels, so text keeps its size.
_WIDTH, _HEIGHT = 360, 236
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 10, 24, 38
#: A curve of at most so many points has a marker on each.
_FEW_POINTS = 25
#: More points than pixels would only make the file larger.
_MAX_POINTS = 180
_DECADE = 10


def line_chart(
    series: Mapping[str, Points],
    *,
    title: str,
    note: str = "",
    label: str,
    colors: Mapping[str, int],
    log: bool = False,
) -> str:
    """Draws one panel: title, lines, and a legend with the last value of each line.

    Args:
      series: `{name: [(step, value), ...]}`, steps ascending, values finite.
      title: the title of the panel.
      note: one line under the title.
      label: what the value axis shows.
      colors: name -> index of the page's `.c<index>` classes.
      log: use a logarithmic value axis if all values are above 0 and span more than
        a decade.

    Returns:
      The HTML of one `<figure>`.
    """
    series = {name: _thin(points) for name, points in series.items() if points}
    steps = [x for points in series.values() for x, _ in points]
    values = [y for points in series.values() for _, y in points]
    log = log and min(values) > 0 and max(values) > _DECADE * min(values)
    ticks = log_ticks(min(values), max(values)) if log else nice_ticks(values)
    scale_y = math.log10 if log else float
    low = min(scale_y(min(values)), scale_y(ticks[0]))
    high = max(scale_y(max(values)), scale_y(ticks[-1]))
    last = max(steps) or 1

    def x_of(step: float) -> float:
        return _LEFT + step / last * (_WIDTH - _LEFT - _RIGHT)

    def y_of(value: float) -> float:
        share = (scale_y(value) - low) / ((high - low) or 1)
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)

    parts = [_grid(ticks, y_of), _step_axis(last, x_of)]
    parts.append(f'<text class="axis" x="2" y="12">{escape(label)}</text>')
    parts += [
        _line([(x_of(x), y_of(y)) for x, y in points], colors[name], name)
        for name, points in series.items()
    ]
    spoken = "; ".join(f"{k} {_short(v[-1][1])}" for k, v in series.items())
    legend = "".join(
        f'<li><i class="c{colors[name]}"></i>{escape(name.replace("_", " "))}'
        f"<b>{_short(points[-1][1])}</b></li>"
        for name, points in series.items()
    )
    return (
        f'<figure class="chart"><figcaption><h3>{escape(title)}</h3>'
        f"<p>{escape(note)}</p></figcaption>"
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{escape(f"{title} over training steps; at the end: {spoken}")}">'
        f'{"".join(parts)}</svg><ul class="legend">{legend}</ul></figure>'
    )


def nice_ticks(values: Sequence[float], count: int = 4) -> list[float]:
    """Returns about `count` round numbers that enclose the values."""
    low, high = min(values), max(values)
    span = (high - low) or abs(high) or 1.0
    step = 10 ** math.floor(math.log10(span / count))
    step *= next(m for m in (1, 2, 2.5, 5, 10) if span / (step * m) <= count)
    first, final = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    final = max(final, first + 1)
    return [round(i * step, 12) for i in range(first, final + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Returns powers of ten (with 2 and 5 over a short range) within [low, high].

    They must be at least a decade apart, so that a power of ten lies between them.
    """
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1, 2, 5) if len(exponents) <= 3 else (1,)
    marks = [factor * 10.0**e for e in exponents for factor in factors]
    return [mark for mark in marks if low <= mark <= high]


def _grid(ticks, y_of) -> str:
    return "".join(
        f'<path class="grid" d="M{_LEFT} {y_of(t):.1f}H{_WIDTH - _RIGHT}"/>'
        f'<text x="{_LEFT - 7}" y="{y_of(t) + 4:.1f}" text-anchor="end">'
        f"{_short(t)}</text>"
        for t in ticks
    )


def _step_axis(last: float, x_of) -> str:
    ticks = [t for t in nice_ticks([0, last]) if t <= last]
    texts = []
    for index, tick in enumerate(ticks):
        near_edge = x_of(tick) > _WIDTH - 24
        anchor = "start" if index == 0 else "end" if near_edge else "middle"
        texts.append(
            f'<text x="{x_of(tick):.1f}" y="{_HEIGHT - 22}" text-anchor="{anchor}">'
            f"{_steps(tick)}</text>"
        )
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    return "".join(texts) + (
        f'<text class="axis" x="{middle:.0f}" y="{_HEIGHT - 5}" text-anchor="middle">'
        "training step</text>"
    )


def _line(points: list[tuple[float, float]], color: int, name: str) -> str:
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    marked = points if len(points) <= _FEW_POINTS else points[-1:]
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in marked)
    return (
        f'<g class="c{color}"><title>{escape(name)}</title><path d="{path}"/>{dots}</g>'
    )


def _thin(points: Points) -> Points:
    """Averages runs of points until at most `_MAX_POINTS` are left; keeps the last."""
    if len(points) <= _MAX_POINTS:
        return points
    size = math.ceil(len(points) / _MAX_POINTS)
    runs = [points[i : i + size] for i in range(0, len(points) - 1, size)]
    means = [(run[-1][0], math.fsum(y for _, y in run) / len(run)) for run in runs]
    return [*(mean for mean in means if mean[0] < points[-1][0]), points[-1]]


def _short(value: float) -> str:
    if value and abs(value) < 0.001:
        return f"{value:.0e}".replace("e-0", "e-")
    return f"{value:.3g}"


def _steps(step: float) -> str:
    return f"{step / 1000:g}k" if step >= 1000 else f"{step:g}"
