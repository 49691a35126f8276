"""Renders metrics as aligned plain text, one block for each kind of target."""

from collections.abc import Mapping, Sequence

from rahf import targets
from rahf.evaluation.metrics.table import describe_metric

_ARROWS = {"higher": "^", "lower": "v", "": ""}


def is_count(metric: str) -> bool:
    """Returns whether a metric is a number of examples or words."""
    return metric == "n" or metric.startswith("n_")


def group(
    metrics: Mapping[str, Mapping[str, float]],
) -> list[tuple[list[str], list[str]]]:
    """Returns (row names, metric names) for each group of rows that share a kind.

    Targets come in the order of their table, other rows after them in their own
    order. A metric that no example defines is absent, but counts never are, and each
    kind has its own: so counts tell kinds apart without knowing the targets.
    """
    groups: dict[frozenset[str], tuple[list[str], list[str]]] = {}
    for name, values in targets.ordered(metrics).items():
        names, columns = groups.setdefault(
            frozenset(filter(is_count, values)), ([], [])
        )
        names.append(name)
        columns.extend(column for column in values if column not in columns)
    return [
        (names, sorted(columns, key=is_count)) for names, columns in groups.values()
    ]


def format_value(metric: str, value: float | None) -> str:
    """Formats a number for a table: counts whole, squared errors to 5 places."""
    if value is None:
        return "-"
    if is_count(metric):
        return f"{value:,.0f}"
    return f"{value:.5f}" if metric.startswith("mse") else f"{value:.3f}"


def render(metrics: Mapping[str, Mapping[str, float]], title: str = "") -> str:
    """Returns the metrics as text.

    Args:
      metrics: `{row name: {metric: value}}`.
      title: what stands above the row names.

    Returns:
      Blocks of lines such as

                      PLCC ^  SRCC ^    MSE v  images
        plausibility   0.912   0.903  0.01200     256

      where ^ marks metrics for which higher is better, v those for which lower is.
    """
    blocks = []
    for names, columns in group(metrics):
        head = [title] + [
            f"{describe_metric(column).title} {_ARROWS[describe_metric(column).better]}".strip()
            for column in columns
        ]
        body = [
            [name] + [format_value(c, metrics[name].get(c)) for c in columns]
            for name in names
        ]
        blocks.append("\n".join(align([head, *body])))
    return "\n\n".join(blocks)


def align(rows: Sequence[Sequence[str]]) -> list[str]:
    """Returns rows of cells as lines: the first column to the left, others right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [_line(cells, widths) for cells in rows]


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *rest = (
        cell.rjust(width) if index else cell.ljust(width)
        for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )
    return "  ".join([first, *rest]).rstrip()
