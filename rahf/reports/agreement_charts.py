"""Bars and dots as inline SVG, beside the lines of `rahf.reports.charts`."""

from collections.abc import Mapping, Sequence
from html import escape

from rahf.reports.charts import nice_ticks

# Units of the view box, as in `charts`: about the pixels of a panel.
_WIDTH, _HEIGHT = 360, 210
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 10, 10, 26
_ROW = 26
# How many bars fit in a panel; if there are more, the middle ones are left out.
_MOST_BARS = 14
_LEGIBLE = 0.09


def stacked_bars(
    rows: Mapping[str, Sequence[float]],
    *,
    labels: Mapping[str, int],
    title: str,
    note: str,
) -> str:
    """Draws one bar for each row, divided into shares that sum to 1.

    Args:
      rows: `{label: [share, ...]}`.
      labels: label of each share -> index of the page's `.c<index>` classes.
      title: the title of the panel.
      note: one line under the title.

    Returns:
      The HTML of one `<figure>`.
    """
    left, parts, spoken = 92, [], []
    for index, (name, shares) in enumerate(rows.items()):
        y, at = _TOP + index * _ROW, float(left)
        parts.append(
            f'<text x="{left - 8}" y="{y + 14}" text-anchor="end">{escape(name)}</text>'
        )
        for color, share in zip(labels.values(), shares, strict=True):
            width = share * (_WIDTH - _RIGHT - left)
            parts.append(
                f'<rect class="c{color}" x="{at:.1f}" y="{y}" width="{width:.1f}" '
                f'height="{_ROW - 8}"/>'
            )
            if share > _LEGIBLE:
                parts.append(
                    f'<text class="on" x="{at + width / 2:.1f}" y="{y + 13}" '
                    f'text-anchor="middle">{share:.0%}</text>'
                )
            at += width
        described = ", ".join(
            f"{label} {s:.0%}" for label, s in zip(labels, shares, strict=True)
        )
        spoken.append(f"{name}: {described}")
    legend = "".join(
        f'<li><i class="c{color}"></i>{escape(label)}</li>'
        for label, color in labels.items()
    )
    height = _TOP + len(rows) * _ROW
    return _figure(title, note, parts, "; ".join(spoken), height, legend)


def columns(counts: Mapping[str, float], *, title: str, note: str, color: int) -> str:
    """Draws a column for each count.

    Args:
      counts: `{label: count}`.
      title: the title of the panel.
      note: one line under the title.
      color: index of the page's `.c<index>` classes.
    """
    ticks = nice_ticks([0, max(counts.values(), default=0) or 1])
    slot = (_WIDTH - _LEFT - _RIGHT) / max(len(counts), 1)

    def y_of(value: float) -> float:
        return _HEIGHT - _BOTTOM - value / ticks[-1] * (_HEIGHT - _TOP - _BOTTOM)

    parts = _grid([(tick, y_of(tick)) for tick in ticks])
    every = -(-len(counts) // 12)  # labels that fit
    for index, (label, count) in enumerate(counts.items()):
        x, y = _LEFT + (index + 0.15) * slot, y_of(count)
        parts.append(
            f'<rect class="c{color}" x="{x:.1f}" y="{y:.1f}" width="{0.7 * slot:.1f}" '
            f'height="{_HEIGHT - _BOTTOM - y:.1f}"><title>{escape(label)}: {count:,}'
            "</title></rect>"
        )
        if index % every == 0:
            parts.append(
                f'<text x="{x + 0.35 * slot:.1f}" y="{_HEIGHT - 8}" '
                f'text-anchor="middle">{escape(label)}</text>'
            )
    spoken = ", ".join(f"{label}: {count:,}" for label, count in counts.items())
    return _figure(title, note, parts, spoken, _HEIGHT)


def bars(values: Mapping[str, float], *, title: str, note: str) -> str:
    """Draws a bar for each value (at least 0); of many, the first and last ones."""
    names = list(values)
    if len(names) > _MOST_BARS:
        half = _MOST_BARS // 2
        names = names[:half] + names[-half:]
        note += f"; the highest and lowest {half} of {len(values)}"
    longest, left, row = max(values.values()) or 1, 92, 15
    parts = []
    for index, name in enumerate(names):
        y, value = _TOP + index * row, values[name]
        width = value / longest * (_WIDTH - left - 48)
        short = name if len(name) <= 12 else f"{name[:11]}…"
        parts.append(
            f'<text x="{left - 8}" y="{y + 10}" text-anchor="end">{escape(short)}</text>'
            f'<rect class="c0" x="{left}" y="{y}" width="{width:.1f}" height="{row - 4}">'
            f"<title>{escape(name)}</title></rect>"
            f'<text x="{left + width + 6:.1f}" y="{y + 10}">{value:.2f}</text>'
        )
    spoken = ", ".join(f"{name}: {values[name]:.2f}" for name in names)
    return _figure(title, note, parts, spoken, _TOP + len(names) * row)


def dots(
    points: Mapping[str, tuple[float, float, float]],
    *,
    title: str,
    note: str,
    x_label: str,
) -> str:
    """Draws a dot for each (x, y, size); the larger the size, the darker the dot."""
    xs, ys = ([point[axis] for point in points.values()] for axis in (0, 1))
    x_ticks = nice_ticks([*xs, 0])
    y_ticks = nice_ticks([*ys, 1, min(0, *ys, 0.5)])
    most = max(size for *_, size in points.values()) or 1

    def x_of(value: float) -> float:
        share = (value - x_ticks[0]) / (x_ticks[-1] - x_ticks[0])
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    def y_of(value: float) -> float:
        share = (value - y_ticks[0]) / (y_ticks[-1] - y_ticks[0])
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)

    parts = _grid([(tick, y_of(tick)) for tick in y_ticks])
    for index, tick in enumerate(x_ticks):
        last = index == len(x_ticks) - 1
        anchor = "start" if index == 0 else "end" if last else "middle"
        text = f"{x_label} {tick:g}" if index == 0 else f"{tick:g}"
        parts.append(
            f'<text x="{x_of(tick):.1f}" y="{_HEIGHT - 8}" text-anchor="{anchor}">'
            f"{escape(text)}</text>"
        )
    parts.append(f'<path class="grid" d="M{x_of(0):.1f} {_TOP}V{_HEIGHT - _BOTTOM}"/>')
    parts += [
        f'<g class="c0"><circle cx="{x_of(x):.1f}" cy="{y_of(y):.1f}" r="5" '
        f'fill-opacity="{0.35 + 0.65 * size / most:.2f}"><title>{escape(name)}: bias '
        f"{x:+.2f}, PLCC {y:.2f}, {size:g} images</title></circle></g>"
        for name, (x, y, size) in points.items()
    ]
    spoken = f"{len(points)} raters; {x_label} from {min(xs):+.2f} to {max(xs):+.2f}, "
    spoken += f"PLCC from {min(ys):.2f} to {max(ys):.2f}"
    return _figure(title, note, parts, spoken, _HEIGHT)


def _grid(ticks: Sequence[tuple[float, float]]) -> list[str]:
    return [
        f'<path class="grid" d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}"/>'
        f'<text x="{_LEFT - 7}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>'
        for tick, y in ticks
    ]


def _figure(
    title: str, note: str, parts: list[str], spoken: str, height: int, legend: str = ""
) -> str:
    keys = f'<ul class="legend">{legend}</ul>' if legend else ""
    return (
        f'<figure class="chart"><figcaption><h3>{escape(title)}</h3>'
        f"<p>{escape(note)}</p></figcaption>"
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" '
        f'aria-label="{escape(f"{title}. {spoken}")}">{"".join(parts)}</svg>'
        f"{keys}</figure>"
    )
