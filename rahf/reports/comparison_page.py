"""Compares runs and writes what was found: JSON, Markdown, LaTeX and one HTML page."""

import dataclasses
import itertools
import json
from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources
from typing import Any

from rahf import storage, targets
from rahf.checkpoints.workdir import read_config
from rahf.evaluation import text_tables
from rahf.evaluation.compared_runs import ComparedRuns
from rahf.evaluation.comparison import ComparedModel, Comparison, Estimate, compare
from rahf.evaluation.examples import JudgedExample
from rahf.evaluation.metrics.table import HEADLINES, describe_metric
from rahf.reports import (
    charts,
    comparison_cards,
    comparison_tables,
    run_curves,
    run_page,
)

#: The files of a comparison.
FILES = tuple(f"comparison.{ending}" for ending in ("json", "md", "tex", "html"))
_COLORS = 8  # `.c0` to `.c7` in report.css


@dataclasses.dataclass(frozen=True, kw_only=True)
class ComparisonRequest:
    """What is compared, and what is written.

    Attributes:
      runs: the runs.
      shown: how many images the page shows.
      baseline: the model that is subtracted from the others; None = the first.
      level, resamples, seed: see `rahf.evaluation.comparison.compare`.
      title: the title of the page.
      output: the folder to write to.
    """

    runs: ComparedRuns
    shown: int = 16
    baseline: str | None = None
    level: float = 0.95
    resamples: int = 2000
    seed: int = 0
    title: str = "Comparison"
    output: str = "comparison"


def write_comparison(request: ComparisonRequest) -> str:
    """Measures, compares and writes; returns the table as text.

    Raises:
      ValueError: a run cannot be measured, the runs cannot be compared, or the folder
        cannot be written to; found before anything is measured, as far as it can be.
    """
    names = list(request.runs.models)
    baseline = names[0] if request.baseline is None and names else request.baseline
    if len(names) < 2 or baseline not in names:
        raise ValueError(
            f"expected at least two models, one of them the baseline; got models "
            f"{', '.join(names) or 'none'} and baseline {baseline!r}"
        )
    folder = storage.check_folder(request.output, FILES)
    models = request.runs.measure()
    found = compare(
        models,
        level=request.level,
        resamples=request.resamples,
        seed=request.seed,
    )
    texts = {
        "json": json.dumps(
            comparison_tables.as_json(found, models, baseline),
            indent=2,
            ensure_ascii=False,
        )
        + "\n",
        "md": comparison_tables.as_markdown(found, baseline),
        "tex": comparison_tables.as_latex(found, baseline),
    }
    for ending, text in texts.items():
        storage.write_text(folder / f"comparison.{ending}", text)
    uids = choose(found, request.shown)
    examples = request.runs.examples_of(set(uids)) if uids else {}
    page = [
        run_page.section("Results", _results(found, baseline), "tables"),
        run_page.section("Side by side", _side_by_side(examples, uids), "examples"),
        run_page.section("Training", _curves(request.runs.workdirs()), "charts"),
        run_page.script(),
    ]
    run_page.write_page(
        folder / "comparison.html",
        title=request.title,
        facts=_facts(models, request.runs.split),
        sections=page,
        style=(resources.files("rahf.reports") / "comparison.css").read_text("utf-8"),
    )
    written = " ".join(str(folder / name) for name in FILES)
    return f"{comparison_tables.as_text(found, baseline)}\n\nwritten: {written}"


def choose(comparison: Comparison, count: int) -> list[str]:
    """Returns the images to show.

    Half of them are those on which the models' answers lie furthest apart, each target
    weighing the same; the other half are the first of the split.
    """
    total: dict[str, float] = {}
    for of_target in comparison.spread.values():
        largest = max(of_target.values(), default=0.0) or 1.0
        for uid, value in of_target.items():
            total[uid] = total.get(uid, 0.0) + value / largest
    ranked = sorted(total, key=lambda uid: -total[uid])
    chosen = ranked[: (count + 1) // 2]
    others = [uid for uid in total if uid not in chosen]
    return chosen + others[: count - len(chosen)]


def _facts(models: Sequence[ComparedModel], split: str) -> dict[str, str]:
    return {
        model.name: "; ".join(run.source for run in model.runs) for model in models
    } | {"Split": split}


def _results(comparison: Comparison, baseline: str) -> str:
    names = comparison.names
    others = [name for name in names if name != baseline]
    seeds = comparison_tables.has_seeds(comparison)
    heads = [*names, *(f"{name} − {baseline}" for name in others)]
    heads += [f"rank of {name}" for name in names] if seeds else []
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in heads)
    body, last = [], ""
    for target, metric, found in comparison_tables.rows(comparison):
        if target != last:
            number = comparison.counts[target]
            title = escape(target.replace("_", " "))
            body.append(
                f'<tr class="of"><th scope="rowgroup">{title}</th>'
                f'<td colspan="{len(heads)}"><small>{number:,} images</small></td></tr>'
            )
        last = target
        body.append(_row(comparison, target, metric, found, baseline))
    notes = "".join(f"<li>{escape(note)}</li>" for note in comparison.notes)
    told = comparison_tables.protocol(comparison, baseline)
    return (
        f'<p class="lead">{escape(told)}</p>'
        '<div class="scroll" tabindex="0" role="region" aria-label="results">'
        f'<table class="compared"><thead><tr><th scope="col">metric</th>{head}</tr>'
        f"</thead><tbody>{''.join(body)}</tbody></table></div>"
        + (f'<ul class="notes">{notes}</ul>' if notes else "")
    )


def _row(
    comparison: Comparison,
    target: str,
    metric: str,
    found: Mapping[str, Estimate],
    baseline: str,
) -> str:
    known, winner = describe_metric(metric), comparison_tables.best(metric, found)
    arrow = {"higher": " ↑", "lower": " ↓"}.get(known.better, "")
    cells = []
    for name in comparison.names:
        if name not in found:
            cells.append("<td>–</td>")
            continue
        value = text_tables.format_value(metric, found[name].value)
        shown = f"<b>{value}</b>" if name == winner else value
        between = comparison_tables.format_interval(metric, found[name])
        runs = ", ".join(text_tables.format_value(metric, x) for x in found[name].runs)
        title = f' title="runs: {runs}"' if len(found[name].runs) > 1 else ""
        cells.append(f"<td{title}>{shown}<small>{between}</small></td>")
    for name in comparison.names:
        if name == baseline:
            continue
        apart = comparison.differences[target][metric].get((name, baseline))
        if apart is None:
            cells.append("<td>–</td>")
            continue
        value = comparison_tables.format_difference(metric, apart.value)
        between = comparison_tables.format_interval(metric, apart, signed=True)
        mark = ' class="clear"' if apart.clear else ""
        star = "*" if apart.clear else ""
        cells.append(f"<td{mark}>{value}{star}<small>{between}</small></td>")
    if comparison_tables.has_seeds(comparison):
        for name in comparison.names:
            rank = found[name].rank if name in found else None
            cells.append(f"<td>{'–' if rank is None else f'{rank:.2f}'}</td>")
    return (
        f'<tr class="run"><th scope="row" title="{escape(known.text)}">'
        f"{escape(known.title)}{arrow}</th>{''.join(cells)}</tr>"
    )


def _side_by_side(
    examples: Mapping[str, Mapping[str, JudgedExample]], uids: Sequence[str]
) -> str:
    """Draws the images that every model has judged, and how to sort them."""
    shown = [uid for uid in uids if all(uid in found for found in examples.values())]
    if not examples or not shown:
        return ""
    each = [{model: found[uid] for model, found in examples.items()} for uid in shown]
    pairs = list(itertools.combinations(range(len(examples)), 2))
    distances: list[list[dict[str, float]]] = []
    for judged in each:
        answers = list(judged.values())
        distances.append(
            [comparison_cards.apart(answers[a], answers[b]) for a, b in pairs]
        )
    named = dict.fromkeys(n for some in distances for of_pair in some for n in of_pair)
    data: dict[str, Any] = {"pairs": pairs, "apart": distances}
    text = json.dumps(data).replace("<", "\\u003c")
    script = (resources.files("rahf.reports") / "comparison.js").read_text("utf-8")
    cards = "".join(
        comparison_cards.card(judged, number) for number, judged in enumerate(each)
    )
    return (
        '<p class="lead">Half of them are the images on which the models’ answers lie '
        "furthest apart, the others the first of the split. Underlined words are "
        "misaligned according to the raters.</p>"
        f"{_form(list(examples), targets.ordered(named))}"
        f'<div class="all">{cards}</div>'
        f'<script type="application/json" id="apart">{text}</script>'
        f"<script>{script}</script>"
    )


def _form(models: Sequence[str], names: Mapping[str, Any]) -> str:
    def options(texts: Sequence[str], chosen: int) -> str:
        return "".join(
            f'<option value="{number}"{" selected" * (number == chosen)}>'
            f"{escape(text)}</option>"
            for number, text in enumerate(texts)
        )

    of = "".join(
        f'<option value="{escape(name)}">{escape(name.replace("_", " "))}</option>'
        for name in names
    )
    return (
        '<form class="sorting" hidden><label>Most apart first: '
        f'<select name="one">{options(models, 0)}</select></label> <label>and '
        f'<select name="other">{options(models, 1)}</select></label> <label>in '
        f'<select name="of"><option value="">all targets</option>{of}</select></label>'
        "</form>"
    )


def _curves(workdirs: Mapping[str, Sequence[str]]) -> str:
    """Draws each headline metric of each target, all runs over each other."""
    logs, colors, splits = {}, {}, set()
    for index, (model, places) in enumerate(workdirs.items()):
        for number, place in enumerate(places, 1):
            label = model if len(places) == 1 else f"{model} {number}"
            logs[label], _ = run_curves.read_log(place)
            colors[label] = index % _COLORS
            splits.add(read_config(place).eval.split)
    split = splits.pop() if len(splits) == 1 else ""
    drawn = []
    loss = {
        label: log["train/loss"] for label, log in logs.items() if "train/loss" in log
    }
    if loss:
        drawn.append(
            charts.line_chart(
                loss,
                title="Training loss",
                note="each model's own weighted sum, train split",
                label="loss",
                colors=colors,
                log=True,
            )
        )
    for target, metric in _headlines():
        found = {
            label: run_curves.measured(log).get(metric, {}).get(target)
            for label, log in logs.items()
        }
        series = {label: points for label, points in found.items() if points}
        if series:
            known = describe_metric(metric)
            on = run_curves.say_measured_on(logs[next(iter(series))], [target], split)
            title = f"{target.replace('_', ' ')}: {known.title}"
            drawn.append(
                charts.line_chart(
                    series,
                    title=f"{title}, {on}" if on else title,
                    note=known.text,
                    label=known.title,
                    colors=colors,
                )
            )
    return run_curves.panels(drawn)


def _headlines() -> list[tuple[str, str]]:
    return [
        (row.name, metric)
        for row in targets.rows()
        for metric in HEADLINES.get(row.kind, ())
    ]
