"""Calibrates prediction intervals by split-conformal prediction.

The errors of a model on images that it was not trained on, the dev split, say how far a
prediction may be from the truth. Of n errors `truth - prediction`, in order, the interval
reaches from the k-th of the lowest to the k-th of the highest, k = floor((n + 1) a / 2),
and so holds the truth of a new image of the same kind with a probability of at least
1 - a, whatever the model (Vovk et al., "Algorithmic Learning in a Random World"; Lei et
al., "Distribution-Free Predictive Inference for Regression", 2018).
"""

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from rahf import storage, targets
from rahf.checkpoints import identity
from rahf.evaluation.evaluate import Results
from rahf.evaluation.runs import EvaluationRequest, RunEvaluation
from rahf.inference import intervals
from rahf.targets import Kind

#: The levels of the plot of calibration.
LEVELS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)


def conformal_offsets(errors: npt.ArrayLike, level: float) -> tuple[float, float]:
    """Returns what is added to a prediction for the ends of its interval.

    Args:
      errors: float[N], truth - prediction.
      level: the share of images whose truth the interval holds, at least.

    Returns:
      (low, high), of which low <= 0 <= high, so that the interval holds the prediction;
      -1 and 1, the whole range, if there are too few errors for the level.
    """
    ordered = np.sort(np.asarray(errors, np.float64))
    # Rounding would turn 20 x 0.05 into less than 1.
    place = math.floor(round((len(ordered) + 1) * (1 - level) / 2, 9))
    if place < 1:
        return -1.0, 1.0
    low, high = ordered[place - 1], ordered[-place]
    return float(max(min(low, 0.0), -1.0)), float(min(max(high, 0.0), 1.0))


def coverage(
    predicted: npt.ArrayLike, truth: npt.ArrayLike, offsets: tuple[float, float]
) -> tuple[float, float]:
    """Returns the share of images whose truth is in the interval, and its mean width."""
    guess, true = np.asarray(predicted, np.float64), np.asarray(truth, np.float64)
    low = np.maximum(guess + offsets[0], 0.0)
    high = np.minimum(guess + offsets[1], 1.0)
    # Labels and offsets may both have been rounded to float32.
    held = (true >= low - 1e-6) & (true <= high + 1e-6)
    return float(held.mean()), float((high - low).mean())


@dataclasses.dataclass(frozen=True, kw_only=True)
class CalibrationRequest:
    """What to calibrate; the fields match the flags of rahf.bin.calibrate.

    Attributes:
      evaluation: the checkpoint and the split, on which it was not trained.
      level: the share of images whose truth an interval holds.
      check: another split to measure the coverage on; "" = none.
    """

    evaluation: EvaluationRequest
    level: float = 0.8
    check: str = ""


def calibrate(request: CalibrationRequest) -> str:
    """Calibrates a checkpoint, writes W/calibration.json and returns a table.

    Raises:
      ValueError: the split is "train" or also the one to check, has no labels, or the
        workdir cannot be written to.
    """
    asked = request.evaluation
    if asked.split == "train" or request.check in ("train", asked.split):
        raise ValueError(
            f"--split={asked.split} --check={request.check}: expected two splits that "
            "the model was not trained on, or --check="
        )
    run = RunEvaluation(asked, Kind.SCORE)
    storage.check_folder(run.workdir, [intervals.FILE])
    levels = sorted({*LEVELS, request.level})
    scores = {
        name: {
            "n": len(errors),
            "offsets": {
                f"{level:g}": list(conformal_offsets(errors, level)) for level in levels
            },
        }
        for name, (predicted, truth) in _answers(run.evaluate()).items()
        for errors in [np.subtract(truth, predicted)]
    }
    if not scores:
        raise ValueError(f"nothing to calibrate: no label in the {asked.split} split")
    found = {
        "format": intervals.FORMAT,
        "step": run.step,
        "checkpoint_digest": identity.digest_of(run.workdir, run.step, run.params),
        "split": asked.split,
        "level": request.level,
        "scores": scores,
    }
    if request.check:
        other = dataclasses.replace(asked, split=request.check)
        found["checked"] = _check(RunEvaluation(other, Kind.SCORE), scores)
    path = storage.place(run.workdir) / intervals.FILE
    storage.write_text(path, json.dumps(found, indent=2) + "\n")
    return f"written: {path}\n{_table(found)}"


def _answers(results: Results) -> dict[str, tuple[list[float], list[float]]]:
    found: dict[str, tuple[list[float], list[float]]] = {}
    for row in results.rows:
        predicted, truth = found.setdefault(row["target"], ([], []))
        predicted.append(row["prediction"])
        truth.append(row["truth"])
    return targets.ordered(found)


def _check(run: RunEvaluation, scores: Mapping[str, Any]) -> dict[str, Any]:
    checked = {}
    for name, (predicted, truth) in _answers(run.evaluate()).items():
        if name not in scores:
            continue
        offsets = scores[name]["offsets"]
        found = {k: coverage(predicted, truth, tuple(v)) for k, v in offsets.items()}
        checked[name] = {
            "n": len(truth),
            "coverage": {level: round(share, 6) for level, (share, _) in found.items()},
            "width": {level: round(width, 6) for level, (_, width) in found.items()},
        }
    return {"split": run.request.split, "scores": checked}


def _table(found: Mapping[str, Any]) -> str:
    level = f"{found['level']:g}"
    about = f"of step {found['step']}, from the {found['split']} split"
    lines = [f"{float(level):.0%} intervals {about}"]
    checked = found.get("checked", {})
    for name, score in found["scores"].items():
        low, high = score["offsets"][level]
        line = f"  {name:<15} {low:+.3f} to {high:+.3f}, of {score['n']:,} images"
        if other := checked.get("scores", {}).get(name):
            line += (
                f"; {checked['split']}: {other['coverage'][level]:.1%} of "
                f"{other['n']:,} held, mean width {other['width'][level]:.3f}"
            )
        lines.append(line)
    return "\n".join(lines)
