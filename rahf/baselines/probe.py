"""A probe: ridge regression of each score on what frozen eyes see, and its folder.

    probe.json   the eyes, the scores, what it learned from, its measured strength
    probe.npz    weights float32[T, F] and biases float32[T], of T scores

It is the cheapest real baseline, and blind to the prompt.
"""

import dataclasses
import io
import json
import os
import pathlib
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from rahf import durable, strict_json
from rahf.baselines.ridge import Ridge
from rahf.models.efficientnet import VERSIONS

ABOUT_FILE = "probe.json"
ARRAYS_FILE = "probe.npz"


@dataclasses.dataclass(frozen=True)
class Probe:
    """What a probe's folder holds.

    Attributes:
      eyes: the version of the network.
      side: the side of its images, in pixels.
      targets: the names of the scores.
      weights: float32[T, F].
      biases: float32[T].
      about: anything else: `learned_from` as `rahf.checkpoints.provenance` has it, and
        `results`.
    """

    eyes: str
    side: int
    targets: tuple[str, ...]
    weights: np.ndarray
    biases: np.ndarray
    about: Mapping[str, Any]

    @classmethod
    def join(
        cls, eyes: str, side: int, ridges: Mapping[str, Ridge], about: Mapping[str, Any]
    ) -> "Probe":
        """Joins the ridges of several scores, {name: ridge}."""
        weights = np.stack([ridge.weights for ridge in ridges.values()])
        biases = np.array([ridge.bias for ridge in ridges.values()], np.float32)
        return cls(eyes, side, tuple(ridges), weights, biases, about)

    def scores(self, features: np.ndarray) -> np.ndarray:
        """float32[B, F] features -> float64[B, T] scores, cut to [0, 1]."""
        found = np.asarray(features, np.float64) @ self.weights.T + self.biases
        return np.clip(found, 0, 1)


def is_probe(folder: str | os.PathLike) -> bool:
    """Returns whether a local folder holds a probe."""
    return "://" not in os.fspath(folder) and (
        pathlib.Path(folder, ABOUT_FILE).is_file()
    )


def write(folder: str | os.PathLike, probe: Probe) -> None:
    """Writes a probe to a folder that exists, the description last."""
    content = io.BytesIO()
    np.savez(content, weights=probe.weights, biases=probe.biases)
    durable.write_bytes(pathlib.Path(folder, ARRAYS_FILE), content.getvalue())
    about = {"eyes": probe.eyes, "side": probe.side, "targets": list(probe.targets)}
    text = json.dumps(about | dict(probe.about), indent=2, ensure_ascii=False)
    durable.write_text(pathlib.Path(folder, ABOUT_FILE), text + "\n")


def read(folder: str | os.PathLike) -> Probe:
    """Reads a probe; nothing in its files is executed.

    Raises:
      ValueError: a file is missing or damaged.
    """
    path = pathlib.Path(folder, ABOUT_FILE)
    try:
        about: Any = strict_json.loads(path.read_text("utf-8"))
        with np.load(pathlib.Path(folder, ARRAYS_FILE), allow_pickle=False) as file:
            weights, biases = file["weights"], file["biases"]
        eyes, side = about.pop("eyes"), about.pop("side")
        probe = Probe(eyes, side, tuple(about.pop("targets")), weights, biases, about)
        rows = len(probe.targets)
        shapes = [(rows, *weights.shape[1:2]), (rows,)]
        if [weights.shape, biases.shape] != shapes or eyes not in VERSIONS:
            raise ValueError(f"{eyes}, {weights.shape}, {biases.shape}")
        if not (np.isfinite(weights).all() and np.isfinite(biases).all()):
            raise ValueError("weights that are not finite")
    except (
        *(ValueError, KeyError, TypeError, AttributeError),
        *(EOFError, OSError, zipfile.BadZipFile),
    ) as error:
        raise ValueError(
            f"{path.parent} is not a probe, or is damaged ({error}); expected "
            f"{ABOUT_FILE} and {ARRAYS_FILE} of rahf.bin.probe"
        ) from error
    return probe
