"""The plot of calibration: how many true scores intervals hold, against how many they
should, as inline SVG beside a table."""

from collections.abc import Mapping
from html import escape
from typing import Any

# Units of the view box, as in charts.py; here the plot is square.
_WIDTH, _HEIGHT = 360, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 12, 10, 40
_LOW, _HIGH = 0.4, 1.0
_COLORS = 8  # `.c0` to `.c7` in report.css


def calibration_chart(found: Mapping[str, Any]) -> str:
    """Returns the plot and the table as HTML.

    Args:
      found: what rahf.bin.calibrate wrote, with "checked".
    """
    checked, level = found["checked"], f"{found['level']:g}"
    marks = [_mark(value) for value in (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)]
    lines, legend, body = [], "", ""
    for index, (name, about) in enumerate(checked["scores"].items()):
        points = sorted((float(k), share) for k, share in about["coverage"].items())
        lines.append(_line(points, index % _COLORS, name))
        title = escape(name.replace("_", " "))
        legend += f'<li><i class="c{index % _COLORS}"></i>{title}</li>'
        low, high = found["scores"][name]["offsets"][level]
        body += (
            f'<tr class="run"><th scope="row">{title}</th>'
            f"<td>{about['coverage'][level]:.1%}</td><td>{about['width'][level]:.3f}</td>"
            f"<td>{low:+.3f} to {high:+.3f}</td><td>{about['n']:,}</td></tr>"
        )
    split = escape(checked["split"])
    spoken = "; ".join(
        f"{name} {about['coverage'][level]:.0%}"
        for name, about in checked["scores"].items()
    )
    return (
        '<h3>Prediction intervals</h3><div class="panels"><figure class="chart">'
        f"<figcaption><p>Share of the {split} split's true scores within the interval, "
        "over the share it is made for; on the diagonal the two agree.</p></figcaption>"
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="'
        f'{escape(f"coverage of {level} intervals: {spoken}")}">'
        f'{"".join(marks)}<path style="stroke:var(--soft)" stroke-dasharray="4 4" '
        f'd="M{_x(_LOW):.1f} {_y(_LOW):.1f}L{_x(_HIGH):.1f} {_y(_HIGH):.1f}"/>'
        f"{''.join(lines)}"
        f'<text x="{_x(0.7):.0f}" y="{_HEIGHT - 4}" text-anchor="middle">made for</text>'
        f'</svg><ul class="legend">{legend}</ul></figure></div>'
        '<div class="scroll" tabindex="0" role="region" aria-label="intervals"><table>'
        f'<thead><tr><th scope="col">{float(level):.0%} intervals</th>'
        '<th scope="col">held</th><th scope="col">mean width</th>'
        '<th scope="col">around the prediction</th><th scope="col">images</th></tr>'
        f"</thead><tbody>{body}</tbody></table></div>"
    )


def _x(value: float) -> float:
    return _LEFT + (value - _LOW) / (_HIGH - _LOW) * (_WIDTH - _LEFT - _RIGHT)


def _y(value: float) -> float:
    value = min(max(value, _LOW), _HIGH)
    share = (value - _LOW) / (_HIGH - _LOW)
    return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)


def _mark(value: float) -> str:
    """A grid line with its label, and the label of the other axis."""
    return (
        f'<path class="grid" d="M{_LEFT} {_y(value):.1f}H{_WIDTH - _RIGHT}"/>'
        f'<text x="{_LEFT - 7}" y="{_y(value) + 4:.1f}" text-anchor="end">{value:.0%}'
        f'</text><text x="{_x(value):.1f}" y="{_HEIGHT - _BOTTOM + 16}" '
        f'text-anchor="{"end" if value == _HIGH else "middle"}">{value:.0%}</text>'
    )


def _line(points: list[tuple[float, float]], color: int, name: str) -> str:
    placed = [(_x(level), _y(share)) for level, share in points if level >= _LOW]
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in placed)
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in placed)
    return (
        f'<g class="c{color}"><title>{escape(name)}</title><path d="{path}"/>{dots}</g>'
    )
