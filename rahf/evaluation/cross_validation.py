"""Cross-validation: combines the results of k folds."""

import math
from collections.abc import Sequence

import numpy as np

from rahf import durable, targets
from rahf.checkpoints.restore import restore_for_inference
from rahf.evaluation.evaluate import Results
from rahf.evaluation.metrics.table import METRICS
from rahf.evaluation.split import SplitEvaluator
from rahf.targets import Kind


def pool(folds: Sequence[Results]) -> Results:
    """Joins the evaluations of k models, each on the part it was not trained on.

    Args:
      folds: results of score targets, with their rows.

    Returns:
      Results whose metrics have, for each target, the mean over folds ("overall,
      mean of folds"), the standard deviation between folds ("overall, deviation")
      and the metrics of all predictions together ("overall, pooled"). Pooled is not
      the mean: it also measures whether the folds' models agree on the scale. The
      rows are those of all folds, each with its fold.

    Raises:
      ValueError: there are fewer than two folds, or they share an image.
    """
    if len(folds) < 2:
        raise ValueError(f"expected at least two folds, got {len(folds)}")
    rows = [row | {"fold": i} for i, fold in enumerate(folds) for row in fold.rows]
    keys = [(row["uid"], row["target"]) for row in rows]
    if len(set(keys)) < len(keys):
        raise ValueError("two folds measure the same image; they are not one partition")
    metrics = {}
    for name in dict.fromkeys(name for fold in folds for name in fold.metrics):
        measured = [fold.metrics[name] for fold in folds if name in fold.metrics]
        # If no fold has a label for it, the table says so.
        measured = [each for each in measured if each["n"]] or measured[:1]
        columns = [column for column in measured[0] if column != "n"]
        values = {c: [each[c] for each in measured if c in each] for c in columns}
        number = {"n": sum(each["n"] for each in measured)}
        metrics[f"{name}, mean of folds"] = number | {
            c: math.fsum(v) / len(v) for c, v in values.items()
        }
        metrics[f"{name}, deviation"] = number | {
            c: float(np.std(v, ddof=1)) if len(v) > 1 else 0.0
            for c, v in values.items()
        }
        together = METRICS[Kind.SCORE].empty(targets.get(str(name)))
        together.rows = [row for row in rows if row["target"] == name]
        metrics[f"{name}, pooled"] = together.compute()
    return Results(metrics=metrics, rows=rows, convention=folds[0].convention)


def pool_checkpoints(
    workdir: str, folders: Sequence[str], step: str | None = None
) -> str:
    """Evaluates the checkpoint of every fold on its test part and writes one result.

    Args:
      workdir: the folder for scores.json and scores.examples.jsonl.
      folders: the folds' workdirs.
      step: the checkpoint of each fold: a step, "latest" (default) or "best".

    Returns:
      The table as text, after the paths of the files written.

    Raises:
      ValueError: a fold has no such checkpoint, or the output cannot be written.
    """
    durable.check_folder(
        workdir, ["scores.json", "scores.examples.jsonl"], flag="--workdir"
    )
    found, steps = [], []
    for folder in folders:
        config, params, found_step = restore_for_inference(folder, step)
        evaluator = SplitEvaluator(config, split="test", kind=Kind.SCORE, examples=0)
        found.append(evaluator(params, progress=False))
        steps.append(found_step)
    results = pool(found)
    results.facts |= {"folds": len(folders), "steps": steps}
    paths = results.write(workdir, "scores")
    return f"written: {' '.join(paths)}\n{results.table()}"
