"""How well a predicted heatmap matches the raters' heatmap.

Throughout, `prediction` and `truth` are float[H, W] maps of one example, and the
fixations are the pixels where `truth` > 0. Maps are compared as they are, without
per-map rescaling or jitter. Values that other code leaves undefined are defined here
and tested:

  constant map      no contrast: NSS and CC are 0, AUC-Judd is 0.5
  all-zero map      no mass to distribute: SIM is 0, and KLD has its largest value,
                    about -ln(eps)
  every pixel fixated
                    nothing to tell apart: AUC-Judd is 0.5
  single pixel      follows from the above: NSS 0, CC 0, AUC-Judd 0.5, and SIM 1
                    if both maps have mass
  no fixation       ValueError: only the squared error is defined

Definitions: Bylinskii et al., "What do different evaluation metrics tell us about
saliency models?" (arXiv 1604.03605); AUC-Judd from Judd et al., ICCV 2009.
"""

import math
from typing import Any

import numpy as np

from rahf.evaluation.metrics.accumulator import Accumulator, check_convention, finite

#: Keeps KLD finite: float64's machine epsilon, as in the MIT benchmark's code.
EPSILON = 2.220446049250313e-16
#: The richhf convention adds this to every denominator.
RICHHF_EPSILON = 1e-8


def mse(prediction: np.ndarray, truth: np.ndarray) -> float:
    """Returns the mean squared difference over pixels; defined for any two maps."""
    prediction, truth = _pair(prediction, truth)
    return float(np.mean((prediction - truth) ** 2))


def nss(
    prediction: np.ndarray, truth: np.ndarray, *, convention: str = "rahf"
) -> float:
    """Returns the normalised scanpath saliency: the mean z-score at fixations.

    Args:
      prediction: float[H, W].
      truth: float[H, W]; pixels above 0 are the fixations.
      convention: "rahf" divides by the population standard deviation (ddof=0),
        "richhf" by the sample one (ddof=1) plus 1e-8.
    """
    prediction, truth = _pair(prediction, truth, fixated=True)
    centred = _centre(prediction)
    if not centred.any():
        return 0.0
    if check_convention(convention) == "richhf":
        deviation = math.sqrt(np.sum(centred**2) / (centred.size - 1)) + RICHHF_EPSILON
    else:
        deviation = math.sqrt(np.mean(centred**2))
    return float(np.mean(centred[truth > 0]) / deviation)


def cc(prediction: np.ndarray, truth: np.ndarray, *, convention: str = "rahf") -> float:
    """Returns Pearson's correlation over pixels, in [-1, 1].

    Args:
      prediction: float[H, W].
      truth: float[H, W].
      convention: "richhf" adds 1e-8 to the denominator.
    """
    prediction, truth = _pair(prediction, truth, fixated=True)
    a, b = _centre(prediction), _centre(truth)
    extra = RICHHF_EPSILON if check_convention(convention) == "richhf" else 0.0
    # Two roots, since the root of the product underflows sooner.
    scale = math.sqrt(np.sum(a**2)) * math.sqrt(np.sum(b**2)) + extra
    return float(np.sum(a * b) / scale) if scale > 0 else 0.0


def sim(
    prediction: np.ndarray, truth: np.ndarray, *, convention: str = "rahf"
) -> float:
    """Returns the shared mass of the two maps as distributions, in [0, 1].

    Args:
      prediction: float[H, W]; negative values count as 0.
      truth: float[H, W], at least 0.
      convention: "richhf" adds 1e-8 to each sum before dividing by it.
    """
    prediction, truth = _pair(prediction, truth, fixated=True)
    p = _distribution(prediction, convention)
    q = _distribution(truth, convention)
    return float(np.sum(np.minimum(p, q)))


def kld(
    prediction: np.ndarray, truth: np.ndarray, *, convention: str = "rahf"
) -> float:
    """Returns the divergence of the prediction from the truth in nats; 0 is best.

    Args:
      prediction: float[H, W]; negative values count as 0.
      truth: float[H, W], at least 0.
      convention: "rahf" uses the MIT benchmark's eps, "richhf" 1e-8.
    """
    prediction, truth = _pair(prediction, truth, fixated=True)
    p = _distribution(prediction, convention)
    q = _distribution(truth, convention)
    eps = RICHHF_EPSILON if convention == "richhf" else EPSILON
    return float(np.sum(q * np.log(eps + q / (p + eps))))


def auc_judd(
    prediction: np.ndarray, truth: np.ndarray, *, convention: str = "rahf"
) -> float:
    """Returns the area under Judd's ROC curve, in [0, 1]; 0.5 is chance.

    The thresholds are the predicted values at fixations. The curve passes through
    one point per distinct threshold: the share of the fixations, and of the other
    pixels, at or above it. One sort serves all thresholds; counting for each fixation
    would be quadratic in pixels.

    Args:
      prediction: float[H, W].
      truth: float[H, W]; pixels above 0 are the fixations.
      convention: "richhf" counts one other pixel too many at each threshold, as
        the first author's code does. That code also breaks ties at random, which is
        not reproduced; without ties the two agree.
    """
    prediction, truth = _pair(prediction, truth, fixated=True)
    fixated = truth > 0
    n_fixated = int(fixated.sum())
    n_other = fixated.size - n_fixated
    if n_other == 0:
        return 0.5
    thresholds, counts = np.unique(prediction[fixated], return_counts=True)
    # Highest threshold first, so that both shares grow along the curve.
    hits = np.cumsum(counts[::-1])
    ascending = np.sort(prediction, axis=None)
    at_or_above = fixated.size - np.searchsorted(ascending, thresholds[::-1])
    alarms = at_or_above - hits
    if check_convention(convention) == "richhf":
        alarms = alarms + 1
    true_rate = np.concatenate(([0.0], hits / n_fixated, [1.0]))
    false_rate = np.concatenate(([0.0], alarms / n_other, [1.0]))
    heights = (true_rate[1:] + true_rate[:-1]) / 2
    return float(np.sum(np.diff(false_rate) * heights))


#: Metrics that need a fixation, by name.
FIXATED = {"nss": nss, "kld": kld, "auc_judd": auc_judd, "sim": sim, "cc": cc}


class HeatmapMetrics(Accumulator):
    """`mse`, `mse_empty` and the five saliency metrics, averaged over examples.

    `mse` covers all examples, `mse_empty` those without a fixation, and the saliency
    metrics the rest.

    `update` takes prediction and truth float[B, H, W]. Counts: `n`, `n_empty` and
    `n_nonempty`.
    """

    def compute(self) -> dict[str, float]:
        n_empty = sum("mse_empty" in row for row in self.rows)
        return self._means(["mse", "mse_empty", *FIXATED]) | {
            "n": len(self.rows),
            "n_empty": n_empty,
            "n_nonempty": len(self.rows) - n_empty,
        }

    def _row(
        self, prediction: np.ndarray, truth: Any, index: int, label: str
    ) -> dict[str, Any]:
        predicted = finite(prediction[index], f"the predicted map in {label}")
        wanted = finite(truth[index], f"the true map in {label}")
        if predicted.shape != wanted.shape:
            raise ValueError(
                f"{label}: the predicted map is {predicted.shape}, the true map "
                f"{wanted.shape}; they must have the same size"
            )
        error = mse(predicted, wanted)
        if not (wanted > 0).any():
            return {"mse": error, "mse_empty": error}
        return {"mse": error} | {
            name: metric(predicted, wanted, convention=self.convention)
            for name, metric in FIXATED.items()
        }


def _pair(
    prediction: np.ndarray, truth: np.ndarray, fixated: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Checks two maps and returns them as float64."""
    prediction = finite(prediction, "the predicted map")
    truth = finite(truth, "the true map")
    if prediction.shape != truth.shape or not prediction.size:
        raise ValueError(
            "expected two maps of the same size, with at least one pixel, got "
            f"{prediction.shape} and {truth.shape}"
        )
    if fixated and not (truth > 0).any():
        raise ValueError(
            "the true map has no pixel above 0; only mse is defined without fixations"
        )
    return prediction, truth


def _centre(values: np.ndarray) -> np.ndarray:
    """Subtracts the mean; returns exactly 0 for a constant map, despite rounding."""
    if values.min() == values.max():
        return np.zeros_like(values)
    return values - values.mean()


def _distribution(values: np.ndarray, convention: str) -> np.ndarray:
    """Scales a map to sum to 1; an all-zero map stays zero."""
    values = np.maximum(values, 0.0)
    total = values.sum()
    if check_convention(convention) == "richhf":
        return values / (total + RICHHF_EPSILON)
    return values / total if total > 0 else values
