"""Prediction intervals of scores: read from the workdir, laid around predictions.

`rahf.bin.calibrate` writes W/calibration.json:

    {"format": 1, "step": 5000, "checkpoint_digest": "files:41d0...", "split": "dev",
     "level": 0.8,
     "scores": {"plausibility": {"n": 1000, "offsets": {"0.8": [-0.16, 0.13], ...}}},
     "checked": {"split": "test", "scores": {"plausibility": {"n": 1000, "coverage": ...}}}}

An interval is the prediction plus both offsets, clipped to [0, 1].
"""

import dataclasses
import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from absl import logging

from rahf import storage, strict_json
from rahf.checkpoints import identity

if TYPE_CHECKING:
    from rahf.inference.predictor import Prediction

FILE = "calibration.json"
FORMAT = 1


@dataclasses.dataclass(frozen=True)
class Intervals:
    """The intervals of a checkpoint.

    Attributes:
      level: the share of images whose true score an interval holds.
      offsets: by score, what is added to a prediction for both ends.
    """

    level: float
    offsets: Mapping[str, tuple[float, float]]

    def around(self, scores: Mapping[str, float]) -> dict[str, tuple[float, float]]:
        """Returns (low, high) of each score that is calibrated, within [0, 1]."""
        found = {}
        for name, value in scores.items():
            if name in self.offsets:
                low, high = self.offsets[name]
                found[name] = max(value + low, 0.0), min(value + high, 1.0)
        return found


def read_file(workdir: str | os.PathLike) -> dict[str, Any] | None:
    """Returns what rahf.bin.calibrate wrote; None if it has not run.

    Raises:
      ValueError: the file is damaged or of another version.
    """
    path = storage.place(workdir) / FILE
    if not path.exists():
        return None
    try:
        found = strict_json.loads(storage.read_bytes(path))
        if found["format"] != FORMAT:
            raise ValueError(f"format {found['format']!r}")
        level = f"{found['level']:g}"
        for about in found["scores"].values():
            low, high = about["offsets"][level]
            if not -1 <= low <= 0 <= high <= 1:
                raise ValueError(f"offsets {low} and {high}")
        int(found["step"])
        return found
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(
            f"{path} is not a calibration of this version ({error!r}); remove it, or "
            "run rahf.bin.calibrate again"
        ) from error


def why_stale(found: Mapping[str, Any], workdir, step: int, params: Any) -> str:
    """Returns why a calibration is not of this checkpoint; "" if it is."""
    if found["step"] != step:
        return f"it is of step {found['step']}, not of step {step}"
    digest = identity.digest_of(workdir, step, params)
    kinds = [(each or "").partition(":")[0] for each in (digest, found.get(_DIGEST))]
    if kinds[0] == kinds[1] and digest != found.get(_DIGEST):
        return f"step {step} has other parameters now; was it trained again?"
    return ""


_DIGEST = "checkpoint_digest"


def read(workdir: str | os.PathLike, step: int, params: Any) -> Intervals | None:
    """Returns the intervals of a checkpoint; None if it has none of its own.

    A calibration of another step or of other parameters is not used, with a warning.

    Args:
      workdir: the workdir or exported folder.
      step, params: of the checkpoint.

    Raises:
      ValueError: see `read_file`.
    """
    found = _read_own(workdir, step, params)
    if found is None:
        return None
    level = found["level"]
    offsets = {
        name: (float(low), float(high))
        for name, about in found["scores"].items()
        for low, high in [about["offsets"][f"{level:g}"]]
    }
    return Intervals(float(level), offsets)


def encode_for(
    output: str | os.PathLike, workdir: str | os.PathLike, step: int, params: Any
) -> str | None:
    """Returns the content of the file that goes with a copy of the parameters.

    Args:
      output: the folder of the copy, which need not be there yet.
      workdir, step, params: of the checkpoint that is copied.

    Returns:
      JSON; None if the checkpoint has no calibration of its own.

    Raises:
      ValueError: see `read_file`.
    """
    found = _read_own(workdir, step, params)
    if found is None:
        return None
    digest = identity.digest_of(output, step, params)
    return json.dumps(found | {_DIGEST: digest}, indent=2) + "\n"


def _read_own(
    workdir: str | os.PathLike, step: int, params: Any
) -> dict[str, Any] | None:
    """Returns the calibration of a checkpoint; with a warning None if it is stale."""
    found = read_file(workdir)
    if found is None:
        return None
    if why := why_stale(found, workdir, step, params):
        logging.warning(
            "no prediction intervals: %s is stale: %s; run rahf.bin.calibrate again",
            storage.place(workdir) / FILE,
            why,
        )
        return None
    return found


def as_fields(prediction: "Prediction") -> dict[str, Any]:
    """Returns what a line of predictions.jsonl says of intervals; nothing without."""
    if not prediction.intervals:
        return {}
    ends = {
        name: [round(float(low), 6), round(float(high), 6)]
        for name, (low, high) in prediction.intervals.items()
    }
    return {"intervals": ends, "interval_level": prediction.interval_level}


def describe(row: Mapping[str, Any]) -> str:
    """Returns a line's scores in words: "plausibility 0.71 (0.55 to 0.84)"."""
    parts = []
    for name, value in row["scores"].items():
        ends = row.get("intervals", {}).get(name)
        around = f" ({ends[0]:.2f} to {ends[1]:.2f})" if ends else ""
        parts.append(f"{name} {value:.2f}{around}")
    return ", ".join(parts)
