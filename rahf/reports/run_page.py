"""One self-contained HTML page of a run: examples, tables and curves.

The page makes no requests: styles, charts, images and its one script are in the file,
which can be mailed, archived or opened from disk. Without the script it shows as much, but
neither sorts nor enlarges.
"""

import dataclasses
import pathlib
import string
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib import resources
from typing import Any

from rahf import storage
from rahf.evaluation import text_tables
from rahf.evaluation.evaluate import Results
from rahf.evaluation.examples import JudgedExample
from rahf.evaluation.metrics.table import describe_metric
from rahf.reports import cards, run_curves
from rahf.reports.calibration_chart import calibration_chart
from rahf.reports.run_curves import Curves

#: The examples that a page begins with; the others are folded away.
_FIRST = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunReport:
    """What the page of a run shows.

    Attributes:
      title: the title of the page.
      facts: what to know first about the run, label -> value, shown in this order.
      details: further facts, folded away.
      notes: sentences that a reader must not miss.
      examples: the examples to show, one card each.
      own: whether they are images of the user's.
      results: the results of an evaluation; "calibration" among its facts is what
        rahf.bin.calibrate wrote.
      ceiling: what is possible on the same examples, `{"<who> <target>": {metric:
        value}}`, as rahf.bin.scenes_ceiling writes it.
      curves: `{name: [(step, value), ...]}` named as in metrics.jsonl, from
        `run_curves.read_curves`.
      split: the split that the curves were measured on; "" if it is not known.
      trained: what a point of the loss is a mean of.
    """

    title: str
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    details: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    notes: Sequence[str] = ()
    examples: Sequence[JudgedExample] = ()
    own: bool = False
    results: Results | None = None
    ceiling: Mapping[str, Mapping[str, float]] | None = None
    curves: Curves = dataclasses.field(default_factory=dict)
    split: str = ""
    trained: str = "train split"


def write_report(path: str | pathlib.Path, report: RunReport) -> pathlib.Path:
    """Writes the page; its folders are created.

    It begins with what its reader came for: three examples, or all images of the user's;
    then come tables and curves, and training is folded away.

    Returns:
      The path.
    """
    losses = run_curves.loss_panels(report.curves, report.trained)
    more = _facts(report.details)
    sections = [
        section("Examples", _examples(report.examples, report.own), "examples"),
        section("Results", _results(report.results, report.ceiling or {}), "tables"),
        section(
            "Curves",
            run_curves.evaluation_panels(report.curves, report.split),
            "charts",
        ),
        _folded("Training", losses, "charts"),
        _folded("The run", more and f'<dl class="facts">{more}</dl>', "run"),
    ]
    return write_page(
        path,
        title=report.title,
        facts=report.facts,
        notes=report.notes,
        sections=[*sections, script()],
    )


def script() -> str:
    """Returns the script that sorts, filters and enlarges examples."""
    text = (resources.files("rahf.reports") / "report.js").read_text("utf-8")
    return f"<script>{text}</script>"


def write_page(
    path: str | pathlib.Path,
    *,
    title: str,
    facts: Mapping[str, Any],
    sections: Iterable[str],
    notes: Iterable[str] = (),
    style: str = "",
) -> pathlib.Path:
    """Writes a page of sections (`section`) in the report's style; see `write_report`.

    Args:
      path: the HTML file; its folders are created.
      title: the title of the page.
      facts: facts, label -> value, shown under the title.
      sections: the HTML of each section.
      notes: sentences under the facts.
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
        notes="".join(f'<p class="note">{escape(note)}</p>' for note in notes),
        style=usual.substitute(scale=cards.color_scale()) + style,
        sections="".join(sections),
    )
    storage.write_bytes(path, text.encode("utf-8", errors="replace"))
    return path


def section(title: str, body: str, name: str) -> str:
    """Returns a section of the page, or "" if its body is empty."""
    return f'<section class="{name}"><h2>{title}</h2>{body}</section>' if body else ""


def _folded(title: str, body: str, name: str) -> str:
    """Returns a section that opens when its title is clicked, or "" if it is empty."""
    summary = f"<summary><h2>{title}</h2></summary>"
    folded = f'<section class="{name}"><details>{summary}{body}</details></section>'
    return folded if body else ""


def _facts(facts: Mapping[str, Any]) -> str:
    return "".join(
        f"<div><dt>{escape(str(label))}</dt><dd>{escape(str(value))}</dd></div>"
        for label, value in facts.items()
    )


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
    blocks = []
    for names, columns in text_tables.group(metrics):
        known = [describe_metric(column) for column in columns]
        head = "".join(
            f'<th scope="col">{escape(each.title)}{_arrow(each.better)}</th>'
            for each in known
        )
        body = []
        for name in names:
            body.append(_row(name, columns, metrics[name], "run"))
            body += [
                _row(label.removesuffix(f" {name}"), columns, values, "possible")
                for label, values in (ceiling or {}).items()
                if label.endswith(f" {name}")
            ]
        explained = "".join(
            f"<div><dt>{escape(each.title)}</dt> <dd>{escape(each.text)}</dd></div>"
            for column, each in zip(columns, known, strict=True)
            if each.text and column != "n"
        )
        blocks.append(
            '<div class="scroll" tabindex="0" role="region" aria-label="results">'
            f'<table><thead><tr><th scope="col">{rows}</th>{head}</tr></thead>'
            f"<tbody>{''.join(body)}</tbody></table></div>"
            f'<dl class="meaning">{explained}</dl>'
        )
    return "".join(blocks)


def _protocol(results: Results) -> str:
    facts = results.facts
    parts = [f"{facts['split']} split"] if "split" in facts else []
    if numbers := {int(values["n"]) for values in results.metrics.values()}:
        few = f"{min(numbers):,} to " if len(numbers) > 1 else ""
        parts.append(f"{few}{max(numbers):,} images")
    parts.append(f"{results.convention} convention")
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


def _examples(examples: Sequence[JudgedExample], own: bool) -> str:
    """Returns all images of the user's with a form to sort them, or three examples and
    the others folded away."""
    if not examples:
        return ""
    drawn = [cards.card(example, own) for example in examples]
    keys = cards.keys(examples)
    if own:
        return f'{keys}{_form()}<div class="all">{"".join(drawn)}</div>'
    first, others = drawn[:_FIRST], drawn[_FIRST:]
    folded = "".join(others)
    if others:
        few = "1 more example" if len(others) == 1 else f"{len(others)} more examples"
        folded = f"<details><summary>{few}</summary>{folded}</details>"
    return f"{keys}{''.join(first)}{folded}"


def _form() -> str:
    """Returns the controls that the page's script fills and shows."""
    return (
        '<form class="sorting" hidden><label>Sort by <select name="by">'
        '<option value="">the order given</option></select></label>'
        '<label>Show <input type="search" name="text" '
        'placeholder="words of prompt or name"></label>'
        '<label>with <select name="of"><option value="">any score</option></select>'
        '</label><output class="found" aria-live="polite"></output></form>'
    )
