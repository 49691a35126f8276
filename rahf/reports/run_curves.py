"""The curves of a run: read from its log, drawn as panels."""

import json
import math
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rahf import storage, targets
from rahf.evaluation.metrics.table import HEADLINES, describe_metric
from rahf.reports import charts

Curves = Mapping[str, Sequence[tuple[int, float]]]
_COLORS = 8  # `.c0` to `.c7` in report.css


def read_curves(rows: Iterable[Mapping[str, float]]) -> dict[str, list]:
    """Turns lines of metrics.jsonl into curves.

    `[{"step": 1, "train/loss": 2.0}]` -> `{"train/loss": [(1, 2.0)]}`.

    Args:
      rows: one mapping per logged step. If a step appears twice, as in a resumed run,
        the last one counts; NaN and infinity are left out.
    """
    curves: dict[str, dict[int, float]] = {}
    for row in rows:
        for name, value in row.items():
            if name != "step" and math.isfinite(value):
                curves.setdefault(name, {})[int(row["step"])] = float(value)
    return {name: sorted(points.items()) for name, points in curves.items()}


def read_log(workdir: str | pathlib.Path) -> tuple[dict[str, list], int]:
    """Returns the curves of a run's metrics.jsonl, and how many lines are garbled.

    A line that is not a JSON object of numbers with a step is garbled and skipped; so
    is a last line that a killed process left half written.
    """
    # Here, since it imports JAX, which agreement pages do not need.
    from rahf.checkpoints.metrics_log import METRICS_FILE

    path = storage.place(workdir) / METRICS_FILE
    if not path.exists():
        return {}, 0
    rows, garbled = [], 0
    for line in storage.read_bytes(path).splitlines():
        try:
            row = {name: float(x) for name, x in json.loads(line).items()}
            int(row["step"])  # neither absent nor NaN
            rows.append(row)
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
            garbled += 1
    return read_curves(rows), garbled


def measured(curves: Curves) -> dict[str, dict[str, Any]]:
    """Returns what was measured on the way, {metric: {target: points}}."""
    found: dict[str, dict[str, Any]] = {}
    for name, points in curves.items():
        if name.startswith("eval/") and name.count("/") >= 2:
            *_, target, metric = name.split("/")
            found.setdefault(metric, {})[target] = points
    return found


def say_measured_on(curves: Curves, names: Iterable[str], split: str) -> str:
    """Returns what curves are measured on: "dev split, 256 images".

    Args:
      curves: all curves of the run.
      names: the targets that are drawn.
      split: the split; "" if it is not known.
    """
    numbers = measured(curves).get("n", {})
    last = {int(numbers[name][-1][1]) for name in names if name in numbers}
    several = f"{min(last):,} to {max(last):,}" if len(last) > 1 else ""
    parts = [f"{split} split"] if split else []
    parts += [f"{several or f'{max(last):,}'} images"] if last else []
    return ", ".join(parts)


def evaluation_panels(curves: Curves, split: str) -> str:
    """Draws a panel for each headline metric.

    Args:
      curves: named as in metrics.jsonl.
      split: the split that they were measured on.
    """
    found, colors = measured(curves), _colors(curves)
    drawn = []
    for metric in (name for names in HEADLINES.values() for name in names):
        if metric in found:
            known = describe_metric(metric)
            on = say_measured_on(curves, found[metric], split)
            drawn.append(
                charts.line_chart(
                    {x: found[metric][x] for x in colors if x in found[metric]},
                    title=f"{known.title}, {on}" if on else known.title,
                    note=known.text,
                    label=known.title,
                    colors=colors,
                )
            )
    return panels(drawn)


def loss_panels(curves: Curves, examples: str) -> str:
    """Draws a panel for the loss, and one for its parts.

    Args:
      curves: named as in metrics.jsonl.
      examples: what a point is a mean of, such as "train split, mean of 640 examples".
    """
    losses = _losses(curves)
    colors, drawn = _colors(curves), []
    if "total" in losses:
        drawn.append(
            charts.line_chart(
                {"total": losses["total"]},
                title="Training loss",
                note=f"the weighted sum that training minimises; {examples}",
                label="loss",
                colors={"total": _COLORS - 1},
                log=True,
            )
        )
    if parts := {name: losses[name] for name in colors if name in losses}:
        drawn.append(
            charts.line_chart(
                parts,
                title="Loss by target",
                note=f"per example, before weighting; {examples}",
                label="loss",
                colors=colors,
                log=True,
            )
        )
    return panels(drawn)


def panels(charts_: Iterable[str]) -> str:
    """Returns charts side by side, "" if there are none."""
    drawn = "".join(charts_)
    return f'<div class="panels">{drawn}</div>' if drawn else ""


def _losses(curves: Curves) -> dict[str, Any]:
    return {
        name.removeprefix("train/loss").removeprefix("/") or "total": points
        for name, points in curves.items()
        if name == "train/loss" or name.startswith("train/loss/")
    }


def _colors(curves: Curves) -> dict[str, int]:
    """Returns the colour of each target, the same in all panels, in their order."""
    labels = {name for name in _losses(curves) if name != "total"}
    labels |= {label for panel in measured(curves).values() for label in panel}
    order = targets.ordered(dict.fromkeys(sorted(labels)))
    return {label: index % _COLORS for index, label in enumerate(order)}
