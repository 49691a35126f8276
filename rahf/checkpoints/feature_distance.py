"""How far an image is from those that a checkpoint was trained on.

A summary of the training images' features (`rahf.models.image_features`) lies beside
the checkpoint as image_features_<step>.npz: their mean, their main directions, and the
distances of the training images themselves, which make the scale. The distance is
Mahalanobis's with the covariance of probabilistic principal components (Tipping and
Bishop, 1999): the main directions have their own variances, all others share one.

It is a distance in the features of this checkpoint, and says nothing about quality. An
image near the training images may be misjudged, and one far from them judged well, but
nothing was learned there.
"""

import dataclasses
import hashlib
import io
import os
import pathlib
import re
import zipfile
from typing import Any

import jax
import numpy as np

from rahf import storage
from rahf.checkpoints.workdir import folder

#: Directions with a variance of their own, at most.
_DIRECTIONS = 32
#: Parts of the training images; each is measured by a summary of the others.
_PARTS = 5
#: Fewer images than this make no summary.
LEAST = 20
# Any training changes this array, which most models have.
_ARRAY = ("visual_token_projection", "kernel")


class TooFewImagesError(ValueError):
    """There are too few training images for a summary."""


def check_enough(images: int) -> None:
    """Raises TooFewImagesError for fewer images than `LEAST`."""
    if images < LEAST:
        raise TooFewImagesError(
            f"expected at least {LEAST} different training images, got {images}: too "
            "few to say what is far from them"
        )


@dataclasses.dataclass(frozen=True)
class FeatureSummary:
    """The features of training images, summarised; F is their number.

    Attributes:
      mean, scale: float32[F], of each feature.
      directions: float16[K, F], orthonormal, of the features so normalised.
      variances: float32[K + 1], along each direction, then along any other.
      distances: float32[N], ascending: of each training image, by a summary that was
        made without it.
    """

    mean: np.ndarray
    scale: np.ndarray
    directions: np.ndarray
    variances: np.ndarray
    distances: np.ndarray

    @classmethod
    def fit(cls, features: np.ndarray) -> "FeatureSummary":
        """Summarises features.

        Args:
          features: float32[N, F] of different images, in an order that means nothing.

        Raises:
          TooFewImagesError: there are fewer than `LEAST` images.
        """
        check_enough(len(features))
        features = np.asarray(features, np.float64)
        part = np.arange(len(features)) % _PARTS
        distances = np.empty(len(features))
        for held in range(_PARTS):
            others = _fit(features[part != held])
            distances[part == held] = others.measure(features[part == held])
        found = _fit(features)
        return dataclasses.replace(
            found, distances=np.sort(distances).astype(np.float32)
        )

    def measure(self, features: np.ndarray) -> np.ndarray:
        """Returns the distance of each row of float[B, F]: float64[B]."""
        x = (np.asarray(features, np.float64) - self.mean) / self.scale
        along = x @ self.directions.astype(np.float64).T
        rest = np.maximum(np.square(x).sum(1) - np.square(along).sum(1), 0)
        own, other = self.variances[:-1], self.variances[-1]
        return np.sqrt((np.square(along) / own).sum(1) + rest / other)

    def percentiles(self, features: np.ndarray) -> np.ndarray:
        """Returns how many of the training images are nearer, in percent: float64[B].

        Args:
          features: float[B, F].
        """
        nearer = np.searchsorted(self.distances, self.measure(features))
        return 100.0 * nearer / len(self.distances)


def _fit(features: np.ndarray) -> FeatureSummary:
    """Summarises float64[N, F], without distances."""
    mean, scale = features.mean(0), features.std(0)
    # A feature that never changes would be infinitely surprising.
    scale = np.maximum(scale, 1e-3 * max(scale.max(), 1e-12))
    x = (features - mean) / scale
    number, width = x.shape
    count = min(_DIRECTIONS, width - 1, number // 4)
    _, values, rows = np.linalg.svd(x, full_matrices=False)
    variances = np.square(values) / number
    rest = max(variances[count:].sum() / (width - count), 1e-6)
    own = np.maximum(variances[:count], rest)
    return FeatureSummary(
        mean=mean.astype(np.float32),
        scale=scale.astype(np.float32),
        directions=rows[:count].astype(np.float16),
        variances=np.array([*own, rest], np.float32),
        distances=np.zeros(0, np.float32),
    )


#: Which files are such summaries.
FILE = re.compile(r"image_features_\d+\.npz")


def file_name(step: int) -> str:
    """Returns the name of the file of a step's summary, in the workdir or an export."""
    return f"image_features_{step}.npz"


def encode(summary: FeatureSummary, params: Any) -> bytes:
    """Returns the content of the file: numpy's npz, without objects."""
    arrays = {f.name: getattr(summary, f.name) for f in dataclasses.fields(summary)}
    content = io.BytesIO()
    np.savez(content, **arrays, digest=np.frombuffer(_digest(params), np.uint8))
    return content.getvalue()


def write(
    workdir: str | os.PathLike, step: int, params: Any, summary: FeatureSummary
) -> pathlib.Path:
    """Writes the summary of a step's training images; returns the file."""
    path = folder(workdir) / file_name(step)
    storage.write_bytes(path, encode(summary, params))
    return path


def read(workdir: str | os.PathLike, step: int, params: Any) -> FeatureSummary | None:
    """Reads the summary of a step.

    Args:
      workdir: a workdir, or a folder that rahf.bin.export wrote.
      step: the step.
      params: its parameters.

    Returns:
      The summary; None if there is none, or if it is of other parameters, such as
      those of an earlier run in the same folder.

    Raises:
      ValueError: the file is damaged.
    """
    path = folder(workdir) / file_name(step)
    if not path.exists():
        return None
    try:
        with np.load(io.BytesIO(storage.read_bytes(path)), allow_pickle=False) as file:
            arrays = dict(file)
        digest = arrays.pop("digest").tobytes()
        found = FeatureSummary(**arrays)
        _check(found)
    except (
        *(ValueError, KeyError, TypeError, EOFError, OSError),
        zipfile.BadZipFile,
    ) as error:
        raise ValueError(
            f"{path} is not a summary of image features, or is damaged ({error}); "
            "remove it, and make another with rahf.bin.measure_distance"
        ) from error
    return found if digest == _digest(params) else None


def _check(summary: FeatureSummary) -> None:
    directions, width = summary.directions.shape
    shapes = {
        "mean": (width,),
        "scale": (width,),
        "variances": (directions + 1,),
        "distances": (summary.distances.size,),
    }
    for name, shape in shapes.items():
        array = getattr(summary, name)
        if array.shape != shape or not np.isfinite(array).all():
            raise ValueError(f"{name} is {array.dtype}{list(array.shape)}")
    if summary.distances.size < LEAST or min(summary.variances.min(), 0) < 0:
        raise ValueError(f"{summary.distances.size} distances")


def _digest(params: Any) -> bytes:
    layer, kernel = _ARRAY
    arrays = [params[layer][kernel]] if layer in params else jax.tree.leaves(params)
    found = hashlib.sha256()
    for array in arrays:
        found.update(np.asarray(array, np.float32).tobytes())
    return found.digest()
