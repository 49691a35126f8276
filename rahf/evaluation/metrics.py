"""Which metrics each kind of target has, and what they mean."""

import dataclasses

from rahf import targets
from rahf.evaluation.accumulator import Accumulator
from rahf.evaluation.heatmap_metrics import HeatmapMetrics
from rahf.evaluation.score_metrics import ScoreMetrics
from rahf.evaluation.word_metrics import WordMetrics

#: A kind without an entry (captions) is trained on, and not evaluated.
METRICS: dict[targets.Kind, type[Accumulator]] = {
    targets.Kind.HEATMAP: HeatmapMetrics,
    targets.Kind.SCORE: ScoreMetrics,
    targets.Kind.WORDS: WordMetrics,
}

#: The metrics to follow during training, the most telling first.
HEADLINES: dict[targets.Kind, tuple[str, ...]] = {
    targets.Kind.HEATMAP: ("cc", "auc_judd"),
    targets.Kind.SCORE: ("plcc",),
    targets.Kind.WORDS: ("f1_micro",),
}


@dataclasses.dataclass(frozen=True)
class Meaning:
    """What a reader needs to know of one metric.

    Attributes:
      title: how it is written in a table.
      better: "higher", "lower", or "" for a count.
      text: one line.
    """

    title: str
    better: str
    text: str


MEANINGS: dict[str, Meaning] = {
    "mse": Meaning("MSE", "lower", "mean squared error; of heatmaps, over all images"),
    "mse_empty": Meaning("MSE, GT=0", "lower", "over images whose true map is empty"),
    "nss": Meaning("NSS", "higher", "mean z-score of the map where raters pointed"),
    "kld": Meaning("KLD", "lower", "divergence from the true map, in nats"),
    "auc_judd": Meaning(
        "AUC-Judd", "higher", "telling marked pixels from others; .5 is chance"
    ),
    "sim": Meaning("SIM", "higher", "shared mass of the two maps, 0 to 1"),
    "cc": Meaning("CC", "higher", "Pearson correlation over pixels, -1 to 1"),
    "plcc": Meaning("PLCC", "higher", "Pearson correlation over images, -1 to 1"),
    "srcc": Meaning("SRCC", "higher", "Spearman rank correlation, -1 to 1"),
    "precision_micro": Meaning(
        "P micro", "higher", "share of marked words that are misaligned, words pooled"
    ),
    "recall_micro": Meaning(
        "R micro", "higher", "share of misaligned words that were found, words pooled"
    ),
    "f1_micro": Meaning("F1 micro", "higher", "harmonic mean of the two"),
    "precision_mean": Meaning("P mean", "higher", "precision per image, averaged"),
    "recall_mean": Meaning("R mean", "higher", "recall per image, averaged"),
    "f1_mean": Meaning("F1 mean", "higher", "F1 per image, averaged"),
    "average_precision": Meaning(
        "AP", "higher", "area under precision over recall, words pooled"
    ),
    "n": Meaning("images", "", "images measured"),
    "n_empty": Meaning("GT=0", "", "images whose true map is empty"),
    "n_nonempty": Meaning("GT>0", "", "images with a marked pixel"),
    "n_words": Meaning("words", "", "words measured"),
    "n_misaligned": Meaning("misaligned", "", "words that are misaligned"),
}


def meaning(name: str) -> Meaning:
    """Returns the meaning of a metric; an unknown one is titled by its name."""
    return MEANINGS.get(name, Meaning(name, "", ""))
