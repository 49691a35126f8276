"""A comparison as JSON, Markdown, LaTeX and plain text."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rahf import targets
from rahf.evaluation.comparison import ComparedModel, Comparison, Estimate
from rahf.evaluation.metrics.table import describe_metric
from rahf.evaluation.text_tables import format_value

_ARROWS = {"higher": "↑", "lower": "↓", "": ""}
_LATEX_ARROWS = {"higher": r" $\uparrow$", "lower": r" $\downarrow$", "": ""}
_LATEX = str.maketrans(
    {
        **{mark: rf"\{mark}" for mark in "_%&#${}"},
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "\\": r"\textbackslash{}",
    }
)


def as_json(
    comparison: Comparison, models: Sequence[ComparedModel], baseline: str
) -> dict[str, Any]:
    """Returns everything as JSON-able values; differences are of all pairs."""
    return {
        **comparison.options,
        "baseline": baseline,
        "models": {
            model.name: [
                {"source": run.source} | _facts(run.results.facts) for run in model.runs
            ]
            for model in models
        },
        "images": dict(comparison.counts),
        "notes": list(comparison.notes),
        "metrics": {
            target: {
                metric: {model: _plain(x) for model, x in found.items()}
                for metric, found in of_target.items()
            }
            for target, of_target in comparison.metrics.items()
        },
        "differences": [
            {"target": target, "metric": metric, "of": one, "minus": other}
            | {k: v for k, v in _plain(estimate).items() if k not in ("runs", "rank")}
            | {"clear": estimate.clear}
            for target, of_target in comparison.differences.items()
            for metric, found in of_target.items()
            for (one, other), estimate in found.items()
        ],
    }


def _facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    kept = ("split", "step", "checkpoint", "predictions", "labels", "unmatched")
    return {name: facts[name] for name in kept if facts.get(name)}


def _plain(estimate: Estimate) -> dict[str, Any]:
    def number(value: float | None) -> float | None:
        return None if value is None or math.isnan(value) else value

    return {
        "value": estimate.value,
        "low": number(estimate.low),
        "high": number(estimate.high),
        "runs": list(estimate.runs),
        "rank": number(estimate.rank),
    }


def rows(
    comparison: Comparison,
) -> Iterator[tuple[str, str, Mapping[str, Estimate]]]:
    """Yields (target, metric, estimate of each model), in the order of the tables."""
    for target, of_target in targets.ordered(comparison.metrics).items():
        for metric, found in of_target.items():
            yield target, metric, found


def best(metric: str, found: Mapping[str, Estimate]) -> str | None:
    """Returns the model with the best value; None if neither direction is better."""
    better = describe_metric(metric).better
    if not better:
        return None
    pick = max if better == "higher" else min
    return pick(found, key=lambda model: found[model].value)


def has_seeds(comparison: Comparison) -> bool:
    """Whether any model has several runs."""
    return any(
        len(estimate.runs) > 1
        for _, _, found in rows(comparison)
        for estimate in found.values()
    )


def format_difference(metric: str, value: float) -> str:
    """Formats a difference with its sign."""
    return f"{'+' if value >= 0 else '−'}{format_value(metric, abs(value))}"


def format_interval(metric: str, estimate: Estimate, *, signed: bool = False) -> str:
    """Formats an interval, such as ".690 to .742"."""
    if math.isnan(estimate.low):
        return "-"
    one = format_difference if signed else format_value
    return f"{one(metric, estimate.low)} to {one(metric, estimate.high)}"


def protocol(comparison: Comparison, baseline: str) -> str:
    """Returns how the numbers were made, in words."""
    options = comparison.options
    numbers = sorted(set(comparison.counts.values()))
    images = " to ".join(
        f"{number:,}" for number in dict.fromkeys([numbers[0], numbers[-1]])
    )
    seeds = (
        " Values of several runs are means over them, in every resample; the intervals "
        "are over images, not over seeds. The rank is that of a run among runs of the "
        "other models, drawn at random."
        if has_seeds(comparison)
        else ""
    )
    return (
        f"{images} images. {options['level']:.0%} intervals by {options['resamples']:,} "
        f"bootstrap resamples of the images (seed {options['seed']}), the same for all "
        f"models; {options['convention']} convention.{seeds} Differences are minus "
        f"{baseline}; * where the interval of a difference leaves out 0."
    )


def _grid(comparison: Comparison, baseline: str, bold: str, arrows: Mapping[str, str]):
    """Yields the cells of a table: head, then a row for each metric."""
    names, seeds = comparison.names, has_seeds(comparison)
    others = [name for name in names if name != baseline]
    yield [
        *("target", "metric", *names),
        *(f"{name} − {baseline}" for name in others),
        *((f"rank of {name}" for name in names) if seeds else ()),
    ]
    last = ""
    for target, metric, found in rows(comparison):
        winner, known = best(metric, found), describe_metric(metric)
        line = [
            target.replace("_", " ") if target != last else "",
            f"{known.title} {arrows[known.better]}".strip(),
        ]
        for name in names:
            line.append(
                _cell(metric, found[name], bold if name == winner else "{}")
                if name in found
                else "-"
            )
        for name in others:
            apart = comparison.differences[target][metric].get((name, baseline))
            line.append("-" if apart is None else _difference_cell(metric, apart))
        if seeds:
            line += [_rank(found[name]) if name in found else "-" for name in names]
        last = target
        yield line


def _cell(metric: str, estimate: Estimate, frame: str) -> str:
    value = frame.replace("{}", format_value(metric, estimate.value))
    return f"{value} ({format_interval(metric, estimate)})"


def _difference_cell(metric: str, apart: Estimate) -> str:
    mark = "*" if apart.clear else ""
    value = format_difference(metric, apart.value)
    return f"{value}{mark} ({format_interval(metric, apart, signed=True)})"


def _rank(estimate: Estimate) -> str:
    return "-" if estimate.rank is None else f"{estimate.rank:.2f}"


def as_text(comparison: Comparison, baseline: str) -> str:
    """Returns the table as aligned plain text, with what it means below."""
    grid = list(
        _grid(comparison, baseline, "{}", {"higher": "^", "lower": "v", "": ""})
    )
    widths = [max(map(len, column)) for column in zip(*grid, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        for line in grid
    ]
    told = [*map(str.rstrip, lines), "", protocol(comparison, baseline)]
    return "\n".join([*told, *comparison.notes])


def as_markdown(comparison: Comparison, baseline: str) -> str:
    """Returns the table in Markdown, the best values bold."""
    head, *body = _grid(comparison, baseline, "**{}**", _ARROWS)
    lines = [head, ["---"] * len(head), *body]
    escape = lambda cell: cell.replace("|", "\\|")
    table = "\n".join(f"| {' | '.join(map(escape, line))} |" for line in lines)
    notes = "".join(f"- {note}\n" for note in comparison.notes)
    return f"{table}\n\n{protocol(comparison, baseline)}\n" + (notes and f"\n{notes}")


def as_latex(comparison: Comparison, baseline: str) -> str:
    """Returns the table in LaTeX with booktabs, the best values bold."""
    begin, end = "\ue000", "\ue001"  # stand for \textbf{ and } while text is escaped
    head, *body = _grid(
        comparison, baseline, f"{begin}{{}}{end}", {"higher": "↑", "lower": "↓", "": ""}
    )

    def line(cells: Sequence[str]) -> str:
        texts = [cell.translate(_LATEX) for cell in cells]
        return " & ".join(texts) + r" \\"

    text = "\n".join(
        [
            "% \\usepackage{booktabs}",
            rf"\begin{{tabular}}{{ll{'r' * (len(head) - 2)}}}",
            *(r"\toprule", line(head), r"\midrule"),
            *map(line, body),
            *(r"\bottomrule", r"\end{tabular}"),
            *(
                f"% {text}"
                for text in (protocol(comparison, baseline), *comparison.notes)
            ),
        ]
    )
    for mark, better in (("↑", "higher"), ("↓", "lower")):
        text = text.replace(f" {mark}", _LATEX_ARROWS[better])
    text = text.replace(begin, r"\textbf{").replace(end, "}")
    return text.replace("−", "$-$") + "\n"
