"""The score of a perfect model, given that raters disagree."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from tqdm import tqdm

from rahf.datasets.scenes import oracle, rater_against_others
from rahf.evaluation.metrics.table import METRICS
from rahf.targets import FEEDBACK, Kind, select


def compute_ceiling(
    records: Iterable[Mapping[str, Any]],
    targets: Iterable[str] = FEEDBACK,
    *,
    predict: Callable[[Mapping[str, Any]], Mapping[str, Any]] = oracle,
    progress: bool = True,
) -> dict[str, dict[str, float]]:
    """Measures an oracle and single raters with the metrics used for models.

    Args:
      records: records with labels and "ratings".
      targets: names from `rahf.targets` that have metrics.
      predict: record -> the truth by target name, as `scenes.oracle` returns it.
      progress: whether to draw a progress bar on stderr.

    Returns:
      `{"oracle plausibility": {metric: value}, "rater plausibility": ..., ...}`. The
      oracle is measured against the consolidated labels, and each rater of an image
      against the consolidation of the others.
    """
    rows = select(targets)
    metrics = {
        (who, row.name): METRICS[row.kind].empty(row)
        for row in rows
        for who in ("oracle", "rater")
    }
    for record in tqdm(records, unit="record", leave=False, disable=not progress):
        known, raters = predict(record), rater_against_others(record)
        for row in rows:
            pairs = [("oracle", known[row.name], record[row.field])]
            pairs += [
                ("rater", r["own"][row.field], r["others"][row.field]) for r in raters
            ]
            for who, predicted, label in pairs:
                metrics[who, row.name].update(*_example(row.kind, predicted, label))
    return {f"{who} {name}": each.compute() for (who, name), each in metrics.items()}


def _example(kind: Kind, predicted: Any, label: Any) -> tuple[np.ndarray, Any]:
    """Returns a batch of one, as the metric of this kind expects it."""
    predicted, label = np.asarray(predicted)[None], np.asarray(label)[None]
    if kind is Kind.WORDS:
        # In labels 0 is misaligned; the metric expects the probability of misaligned.
        return 1.0 - predicted, (np.ones_like(label), 1 - label)
    return predicted, label
