"""Ridge regression in closed form, and its honest cross-validated strength.

Hoerl and Kennard, "Ridge Regression: Biased Estimation for Nonorthogonal Problems"
(1970). Rows come in parts that are never divided (images of a prompt stay together). The
penalty that a part is tested with was chosen on the other parts alone: nested
cross-validation.

Shapes: N rows, F features, A penalties.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

#: Penalties to choose from, as shares of the number of rows: with normalised features
#: the mean eigenvalue of the covariance is 1.
PENALTIES = tuple(10.0**power for power in np.arange(-2, 4.01, 0.5))


@dataclasses.dataclass(frozen=True)
class Ridge:
    """A linear map of features.

    Attributes:
      weights: float32[F].
      bias: the prediction where all features are 0.
      penalty: one of `PENALTIES`.
    """

    weights: np.ndarray
    bias: float
    penalty: float

    def predict(self, features: np.ndarray) -> np.ndarray:
        """float[N, F] -> float64[N]."""
        return np.asarray(features, np.float64) @ self.weights + self.bias


def fit_all(features: np.ndarray, values: np.ndarray) -> list[Ridge]:
    """Fits a ridge for each of `PENALTIES`.

    Args:
      features: float[N, F]; they are normalised here.
      values: float[N].
    """
    x, y = np.asarray(features, np.float64), np.asarray(values, np.float64)
    mean, scale = x.mean(0), x.std(0)
    scale = np.where(scale > 1e-6 * max(scale.max(), 1e-12), scale, np.inf)
    x, middle = (x - mean) / scale, y.mean()
    # One decomposition, of the smaller product, serves all penalties.
    few = len(x) < x.shape[1]
    sizes, vectors = np.linalg.eigh(x @ x.T if few else x.T @ x)
    aim = vectors.T @ (y - middle if few else x.T @ (y - middle))
    found = []
    for penalty in PENALTIES:
        solved = vectors @ (aim / (np.maximum(sizes, 0) + penalty * len(x)))
        weights = (x.T @ solved if few else solved) / scale
        bias = float(middle - mean @ weights)
        found.append(Ridge(weights.astype(np.float32), bias, penalty))
    return found


def choose(
    features: np.ndarray, values: np.ndarray, parts: Sequence[np.ndarray]
) -> Ridge:
    """Fits all parts with the penalty that predicts each from the others best.

    Args:
      features: float[N, F].
      values: float[N].
      parts: int[...] each, the rows of a part; at least two.
    """
    errors = np.zeros(len(PENALTIES))
    for held, rows in enumerate(parts):
        others = _join(parts, held)
        for i, ridge in enumerate(fit_all(features[others], values[others])):
            errors[i] += np.square(ridge.predict(features[rows]) - values[rows]).sum()
    rows = np.concatenate(parts)
    return fit_all(features[rows], values[rows])[int(errors.argmin())]


def cross_validate(
    features: np.ndarray,
    values: np.ndarray,
    parts: Sequence[np.ndarray],
    tested: Sequence[int],
) -> tuple[np.ndarray, np.ndarray]:
    """Predicts some parts from all others, of which nothing else was learned.

    Args:
      features: float[N, F].
      values: float[N].
      parts: int[...] each, the rows of a part; at least three.
      tested: the parts to predict.

    Returns:
      float64[N] twice: the ridge's predictions, and the mean of what it learned from,
      which is all that a model without eyes could say. NaN in the other parts.
    """
    found, trivial = np.full((2, len(values)), np.nan)
    for held in tested:
        others = [part for i, part in enumerate(parts) if i != held]
        ridge = choose(features, values, others)
        found[parts[held]] = ridge.predict(features[parts[held]])
        trivial[parts[held]] = values[np.concatenate(others)].mean()
    return found, trivial


def _join(parts: Sequence[np.ndarray], without: int) -> np.ndarray:
    return np.concatenate([part for i, part in enumerate(parts) if i != without])
