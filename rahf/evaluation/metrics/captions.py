"""How well a model foretells the captions of images.

It is told the true caption piece by piece, and asked each time for the next: what
captioning trains. No caption is generated, so no metric of generated text applies.
"""

import collections
import math
from typing import Any

import numpy as np

from rahf.evaluation.metrics.accumulator import Accumulator, finite


class CaptionMetrics(Accumulator):
    """The negative log-likelihood of captions, in nats a piece, all pieces pooled.

    `update` takes prediction float[B, T], the log-probability of each true piece, and
    truth int[B, T], those pieces, 0 behind their end. It depends on the vocabulary:
    only runs with the same one compare.

      nll: of the model. A model that knows nothing has log(vocabulary size).
      nll_unigram: of who knows how often each piece occurs in these very captions,
        and no more: what is below that comes from word order or the image.
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
        said, pieces = prediction[index], np.asarray(truth)[index]
        if said.shape != pieces.shape:
            raise ValueError(
                f"{label}: log-probabilities and pieces must have one shape, got "
                f"{said.shape} and {pieces.shape}"
            )
        at = pieces > 0
        values = finite(said[at], f"the log-probabilities in {label}")
        return {"prediction": values.tolist(), "truth": pieces[at].tolist()}
