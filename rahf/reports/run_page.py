"""One self-contained HTML page of a run: curves, tables and pictures.

The page makes no requests and needs no scripts: styles, charts and images are in the
file, which can be mailed, archived or opened from disk.
"""

import json
import math
import pathlib
import string
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib import resources
from typing import Any

from rahf import storage, targets
from rahf.evaluation import text_tables
from rahf.evaluation.evaluate import Results
from rahf.evaluation.examples import JudgedExample
from rahf.evaluation.metrics.table import HEADLINES, describe_metric
from rahf.reports import cards, charts
from rahf.reports.calibration_chart import calibration_chart

Curves = Mapping[str, Sequence[tuple[int, float]]]
_COLORS = 8  # `.c0` to `.c7` in report.css


def write_report(
    path: str | pathlib.Path,
    *,
    title: str,
    facts: Mapping[str, Any] | None = None,
    curves: Curves | None = None,
    results: Results | None = None,
    ceiling: Mapping[str, Mapping[str, float]] | None = None,
    examples: Iterable[JudgedExample] = (),
) -> pathlib.Path:
    """Writes the page.

    Args:
      path: the HTML file; its folders are created.
      title: the title of the page.
      facts: facts about the run, label -> value, shown in this order.
      curves: `{name: [(step, value), ...]}` named as in metrics.jsonl, from
        `read_curves`.
      results: the results of an evaluation; "calibration" among its facts is what
        rahf.bin.calibrate wrote.
      ceiling: what is possible on the same examples, `{"<who> <target>": {metric:
        value}}`, as rahf.bin.scenes_ceiling writes it.
      examples: the examples to show, one card each.

    Returns:
      The path.
    """
    sections = [
        section("Training", _curves(curves or {}), "charts"),
        section("Results", _results(results, ceiling or {}), "tables"),
        section("Examples", _examples(list(examples)), "examples"),
    ]
    return write_page(path, title=title, facts=facts or {}, sections=sections)


def write_page(
    path: str | pathlib.Path,
    *,
    title: str,
    facts: Mapping[str, Any],
    sections: Iterable[str],
    style: str = "",
) -> pathlib.Path:
    """Writes a page of sections (`section`) in the report's style; see `write_report`.

    Args:
      path: the HTML file; its folders are created.
      title: the title of the page.
      facts: facts, label -> value, shown under the title.
      sections: the HTML of each section.
      style: CSS to add to the report's.
    """
    folder = resources.files("rahf.reports")
    usual = string.Template((folder / "report.css").read_text("utf-8"))
    page = string.Template((folder / "report.html").read_text("utf-8"))
    path = storage.place(path)
    storage.make_folder(path.parent)
    text = page.substitute(
        title=escape(title),
        facts=_facts(facts),
        style=usual.substitute(scale=cards.color_scale()) + style,
        sections="".join(sections),
    )
    storage.write_bytes(path, text.encode("utf-8", errors="replace"))
    return path


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


def section(title: str, body: str, name: str) -> str:
    """Returns a section of the page, or "" if its body is empty."""
    return f'<section class="{name}"><h2>{title}</h2>{body}</section>' if body else ""


def _facts(facts: Mapping[str, Any]) -> str:
    return "".join(
        f"<div><dt>{escape(str(label))}</dt><dd>{escape(str(value))}</dd></div>"
        for label, value in facts.items()
    )


def _curves(curves: Curves) -> str:
    """Draws a panel for the loss, one for its parts, and one per headline metric."""
    losses = {
        name.removeprefix("train/loss").removeprefix("/") or "total": points
        for name, points in curves.items()
        if name == "train/loss" or name.startswith("train/loss/")
    }
    measured: dict[str, dict[str, Any]] = {}
    for name, points in curves.items():
        if name.startswith("eval/") and name.count("/") >= 2:
            *_, target, metric = name.split("/")
            measured.setdefault(metric, {})[target] = points
    parts = {name: points for name, points in losses.items() if name != "total"}
    labels = {*parts, *(label for panel in measured.values() for label in panel)}
    order = list(targets.ordered(dict.fromkeys(sorted(labels))))
    colors = {label: index % _COLORS for index, label in enumerate(order)}
    parts = {name: parts[name] for name in order if name in parts}
    panels = []
    if "total" in losses:
        panels.append(
            charts.line_chart(
                {"total": losses["total"]},
                title="Training loss",
                note="the weighted sum that training minimises",
                colors={"total": _COLORS - 1},
                log=True,
            )
        )
    if parts:
        panels.append(
            charts.line_chart(
                parts,
                title="Loss by target",
                note="per example, before weighting",
                colors=colors,
                log=True,
            )
        )
    for metric in (name for names in HEADLINES.values() for name in names):
        if metric in measured:
            known = describe_metric(metric)
            panels.append(
                charts.line_chart(
                    {x: measured[metric][x] for x in order if x in measured[metric]},
                    title=known.title,
                    note=known.text,
                    colors=colors,
                )
            )
    return f'<div class="panels">{"".join(panels)}</div>' if panels else ""


def _results(
    results: Results | None,
    ceiling: Mapping[str, Mapping[str, float]],
) -> str:
    if results is None or not results.metrics:
        return ""
    notes = "".join(f"<p>{escape(note)}.</p>" for note in results.notes())
    return (
        f'<p class="lead">{_protocol(results)}</p>'
        f"{metric_tables(results.with_trivial(), ceiling)}{notes}{_intervals(results)}"
    )


def _intervals(results: Results) -> str:
    found = results.facts.get("calibration") or {}
    return calibration_chart(found) if "checked" in found else ""


def metric_tables(
    metrics: Mapping[str, Mapping[str, float]],
    ceiling: Mapping[str, Mapping[str, float]] | None = None,
    *,
    rows: str = "target",
) -> str:
    """Returns tables of metrics and what their columns mean, as HTML.

    Args:
      metrics: `{row name: {metric: value}}`.
      ceiling: see `write_report`.
      rows: the header of the first column.
    """
    blocks, used = [], {}
    for names, columns in text_tables.group(metrics):
        used |= dict.fromkeys(columns)
        head = "".join(
            f'<th scope="col" title="{escape(describe_metric(c).text)}">'
            f"{escape(describe_metric(c).title)}{_arrow(describe_metric(c).better)}</th>"
            for c in columns
        )
        body = []
        for name in names:
            body.append(_row(name, columns, metrics[name], "run"))
            body += [
                _row(label.removesuffix(f" {name}"), columns, values, "possible")
                for label, values in (ceiling or {}).items()
                if label.endswith(f" {name}")
            ]
        blocks.append(
            '<div class="scroll" tabindex="0" role="region" aria-label="results">'
            f'<table><thead><tr><th scope="col">{rows}</th>{head}</tr></thead>'
            f"<tbody>{''.join(body)}</tbody></table></div>"
        )
    explained = "".join(
        f"<div><dt>{escape(describe_metric(c).title)}</dt><dd>{escape(describe_metric(c).text)}</dd></div>"
        for c in used
        if describe_metric(c).text
    )
    return (
        f"{''.join(blocks)}"
        f"<details><summary>What the columns mean</summary><dl>{explained}</dl></details>"
    )


def _protocol(results: Results) -> str:
    facts = results.facts
    parts = [f"{results.convention} convention"]
    if "split" in facts:
        parts.insert(0, f"{facts['split']} split")
    if facts.get("step") is not None:
        parts.append(f"checkpoint at step {facts['step']:,}")
    text = ", ".join(parts)
    return escape(text[0].upper() + text[1:]) + ". Arrows point to better values."


def _row(
    label: str, columns: Sequence[str], values: Mapping[str, float], kind: str
) -> str:
    missing = "–" if kind == "run" else ""
    cells = "".join(
        f"<td>{text_tables.format_value(c, values[c]) if c in values else missing}</td>"
        for c in columns
    )
    return (
        f'<tr class="{kind}"><th scope="row">{escape(label.replace("_", " "))}</th>'
        f"{cells}</tr>"
    )


def _arrow(better: str) -> str:
    symbol = {"higher": "↑", "lower": "↓"}.get(better)
    if symbol is None:
        return ""
    return f' <span aria-label="{better} is better">{symbol}</span>'


def _examples(examples: Sequence[JudgedExample]) -> str:
    if not examples:
        return ""
    compared = any(
        truth is not None
        for each in examples
        for truth in (each.true_scores, each.true_heatmaps, each.true_words)
    )
    keys = (
        '<li><span class="ramp" aria-hidden="true"></span> heatmap, 0 to 1: '
        "higher is worse</li>"
        '<li><mark class="word" style="--p:.8">word<small>.80</small></mark> '
        "predicted misaligned, with its probability</li>"
    )
    if compared:
        keys += (
            "<li><u>word</u> misaligned according to the raters</li>"
            '<li><span class="track key" aria-hidden="true"><i class="fill" '
            'style="width:60%"></i><i class="tick" style="left:75%"></i></span> '
            "score, 0 to 1, with the raters' mean as a tick: higher is better</li>"
        )
    return f'<ul class="key">{keys}</ul>' + "".join(map(cards.card, examples))
