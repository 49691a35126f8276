"""How well a model predicts the captions of images.

It is given the true caption so far and predicts the next piece, as in training. No
caption is generated, so metrics of generated text do not apply.
"""

import collections
import math
from typing import Any

import numpy as np

from rahf.evaluation.metrics.accumulator import Accumulator, finite


class CaptionMetrics(Accumulator):
    """The negative log-likelihood of captions in nats per piece, over all pieces.

    `update` takes prediction float[B, T], the log-probability of each true piece, and
    truth int[B, T], those pieces, 0 after their end. The numbers depend on the
    vocabulary: compare only runs that share one.

      nll: of the model; log(vocabulary size) for one that knows nothing.
      nll_unigram: of a model that knows only how often each piece occurs in these
        captions; any gain over it comes from word order or the image.
      perplexity: exp(nll).
    """

    def compute(self) -> dict[str, float]:
        counts: dict[str, float] = {
            "n": len(self.rows),
            "n_pieces": sum(len(row["truth"]) for row in self.rows),
        }
        if not counts["n_pieces"]:
            return counts
        nll = -math.fsum(x for row in self.rows for x in row["prediction"])
        nll /= counts["n_pieces"]
        pieces = collections.Counter(x for row in self.rows for x in row["truth"])
        shares = [number / counts["n_pieces"] for number in pieces.values()]
        return {
            "nll": nll,
            "nll_unigram": -math.fsum(share * math.log(share) for share in shares),
            "perplexity": math.exp(min(nll, 700.0)),  # the largest that is finite
        } | counts

    def _row(
        self, prediction: np.ndarray, truth: Any, index: int, label: str
    ) -> dict[str, Any]:
        predicted, pieces = prediction[index], np.asarray(truth)[index]
        if predicted.shape != pieces.shape:
            raise ValueError(
                f"{label}: log-probabilities and pieces must have one shape, got "
                f"{predicted.shape} and {pieces.shape}"
            )
        at = pieces > 0
        values = finite(predicted[at], f"the log-probabilities in {label}")
        return {"prediction": values.tolist(), "truth": pieces[at].tolist()}
