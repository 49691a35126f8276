"""The metrics of each kind of target, and what they mean."""

import dataclasses
from collections.abc import Iterable

from rahf import targets
from rahf.evaluation.metrics.accumulator import Accumulator
from rahf.evaluation.metrics.captions import CaptionMetrics
from rahf.evaluation.metrics.choices import ChoiceMetrics
from rahf.evaluation.metrics.heatmaps import FIXATED, HeatmapMetrics
from rahf.evaluation.metrics.scores import ScoreMetrics
from rahf.evaluation.metrics.word_presence import WordPresenceMetrics
from rahf.evaluation.metrics.words import WordMetrics

#: A kind without an entry is trained but not evaluated.
METRICS: dict[targets.Kind, type[Accumulator]] = {
    targets.Kind.HEATMAP: HeatmapMetrics,
    targets.Kind.SCORE: ScoreMetrics,
    targets.Kind.WORDS: WordMetrics,
    targets.Kind.CAPTION: CaptionMetrics,
    targets.Kind.WORD_PRESENCE: WordPresenceMetrics,
    targets.Kind.PREFERENCE: ChoiceMetrics,
}

#: The metrics of each kind, without counts; one that no example defines is absent.
NAMES: dict[targets.Kind, tuple[str, ...]] = {
    targets.Kind.HEATMAP: ("mse", "mse_empty", *FIXATED),
    targets.Kind.SCORE: ("plcc", "srcc", "mse"),
    targets.Kind.WORDS: (
        *("precision_micro", "recall_micro", "f1_micro"),
        *("precision_mean", "recall_mean", "f1_mean", "average_precision"),
    ),
    targets.Kind.CAPTION: ("nll", "nll_unigram", "perplexity"),
    targets.Kind.WORD_PRESENCE: ("average_precision_mean",),
    targets.Kind.SOFT_WORDS: (),
    targets.Kind.PREFERENCE: ("accuracy", "accuracy_without_ties"),
}

#: The metrics to follow during training, the most telling first.
HEADLINES: dict[targets.Kind, tuple[str, ...]] = {
    targets.Kind.HEATMAP: ("cc", "auc_judd"),
    targets.Kind.SCORE: ("plcc",),
    targets.Kind.WORDS: ("f1_micro",),
    targets.Kind.CAPTION: ("nll",),
    targets.Kind.WORD_PRESENCE: ("average_precision_mean",),
    targets.Kind.SOFT_WORDS: (),
    targets.Kind.PREFERENCE: ("accuracy",),
}


@dataclasses.dataclass(frozen=True)
class MetricDescription:
    """What a reader needs to know about a metric.

    Attributes:
      title: the column title in tables.
      better: "higher", "lower", or "" if neither.
      text: a one-line explanation.
    """

    title: str
    better: str
    text: str


DESCRIPTIONS: dict[str, MetricDescription] = {
    "mse": MetricDescription(
        "MSE", "lower", "mean squared error; of heatmaps, over all images"
    ),
    "mse_empty": MetricDescription(
        "MSE, GT=0", "lower", "over images whose true map is empty"
    ),
    "nss": MetricDescription(
        "NSS", "higher", "mean z-score of the map where raters pointed"
    ),
    "kld": MetricDescription("KLD", "lower", "divergence from the true map, in nats"),
    "auc_judd": MetricDescription(
        "AUC-Judd", "higher", "telling marked pixels from the rest; .5 is chance"
    ),
    "sim": MetricDescription("SIM", "higher", "shared mass of the two maps, 0 to 1"),
    "cc": MetricDescription("CC", "higher", "Pearson correlation over pixels, -1 to 1"),
    "plcc": MetricDescription(
        "PLCC", "higher", "Pearson correlation over images, -1 to 1"
    ),
    "srcc": MetricDescription("SRCC", "higher", "Spearman rank correlation, -1 to 1"),
    "precision_micro": MetricDescription(
        "P micro", "higher", "share of marked words that are misaligned, words pooled"
    ),
    "recall_micro": MetricDescription(
        "R micro", "higher", "share of misaligned words that were found, words pooled"
    ),
    "f1_micro": MetricDescription(
        "F1 micro",
        "higher",
        "harmonic mean of P micro and R micro, which count the words of all images "
        "together; 1 is perfect",
    ),
    "precision_mean": MetricDescription(
        "P mean", "higher", "precision per image, averaged"
    ),
    "recall_mean": MetricDescription("R mean", "higher", "recall per image, averaged"),
    "f1_mean": MetricDescription("F1 mean", "higher", "F1 per image, averaged"),
    "average_precision": MetricDescription(
        "AP",
        "higher",
        "average precision, words of all images ranked by probability: the area under "
        "precision over recall, whatever the threshold; 1 is perfect",
    ),
    "average_precision_mean": MetricDescription(
        "AP mean", "higher", "area under precision over recall per image, averaged"
    ),
    "nll": MetricDescription(
        "NLL", "lower", "negative log-likelihood per caption piece, in nats"
    ),
    "nll_unigram": MetricDescription(
        "NLL, unigram", "", "NLL of knowing only how often each piece occurs"
    ),
    "perplexity": MetricDescription("perplexity", "lower", "exp(NLL)"),
    "accuracy": MetricDescription(
        "accuracy", "higher", "points for agreeing with people, ties as in Pick-a-Pic"
    ),
    "low": MetricDescription("from", "", "lower end of the 95 % bootstrap interval"),
    "high": MetricDescription("to", "", "upper end of the 95 % bootstrap interval"),
    "accuracy_without_ties": MetricDescription(
        "no ties", "higher", "accuracy over pairs that people did not call a tie"
    ),
    "threshold": MetricDescription(
        "tie up to", "", "largest score difference that counts as a tie"
    ),
    "ties_called": MetricDescription(
        "called ties", "", "share of pairs that the score calls a tie"
    ),
    "n_compared": MetricDescription("pairs", "", "pairs measured"),
    "n_ties": MetricDescription("ties", "", "pairs that people called a tie"),
    "n_prompts": MetricDescription("prompts", "", "different prompts among the pairs"),
    "perfect": MetricDescription(
        "all equal", "higher", "images whose raters all give the same answer"
    ),
    "within_one": MetricDescription(
        "all within 1", "higher", "images whose answers are at most 1 apart"
    ),
    "pairs_perfect": MetricDescription(
        "pairs equal",
        "higher",
        "share of rater pairs with equal answers; mean over images",
    ),
    "pairs_within_one": MetricDescription(
        "pairs within 1",
        "higher",
        "share of rater pairs at most 1 apart; mean over images",
    ),
    "alpha": MetricDescription(
        "alpha", "higher", "Krippendorff's alpha, interval; 1 perfect, 0 chance"
    ),
    "alpha_ordinal": MetricDescription(
        "alpha, ordinal", "higher", "Krippendorff's alpha, ordinal"
    ),
    "alpha_nominal": MetricDescription(
        "alpha", "higher", "Krippendorff's alpha, marked or not; 1 perfect, 0 chance"
    ),
    "kappa": MetricDescription(
        "kappa", "higher", "Cohen's kappa, marked or not; pairs weighted by words"
    ),
    "iou": MetricDescription(
        "IoU",
        "higher",
        "overlap of two raters' disks, if at least one marked something",
    ),
    "same_presence": MetricDescription(
        "same presence",
        "higher",
        "share of rater pairs that agree on whether to mark anything",
    ),
    "bias": MetricDescription(
        "bias", "", "own answer minus mean of the others, averaged, in points"
    ),
    "deviation": MetricDescription(
        "deviation", "lower", "mean distance from the mean of the others, in points"
    ),
    "weight": MetricDescription(
        "weight", "", "weight from --weights=reliability; 1 is average"
    ),
    "seconds": MetricDescription("seconds", "", "median time per rating"),
    "n_ratings": MetricDescription("images", "", "images rated"),
    "n_answers": MetricDescription("answers", "", "answers compared"),
    "n_pairs": MetricDescription("pairs", "", "pairs of raters compared"),
    "n": MetricDescription("images", "", "images measured"),
    "n_empty": MetricDescription("GT=0", "", "images whose true map is empty"),
    "n_nonempty": MetricDescription("GT>0", "", "images with a marked pixel"),
    "n_whole": MetricDescription("whole", "", "images that show their whole prompt"),
    "n_pieces": MetricDescription(
        "pieces", "", "caption pieces, end of sequence included"
    ),
    "n_words": MetricDescription("words", "", "words measured"),
    "n_misaligned": MetricDescription("misaligned", "", "words that are misaligned"),
}


def describe_metric(name: str) -> MetricDescription:
    """Returns the description of a metric; an unknown one has its name as title."""
    return DESCRIPTIONS.get(name, MetricDescription(name, "", ""))


def find(name: str) -> tuple[targets.Target, MetricDescription]:
    """Returns the target and the metric that `<target>/<metric>` names.

    Args:
      name: a name as in metrics.jsonl, such as "plausibility/plcc".

    Raises:
      ValueError: the target is unknown, or its kind has no such metric.
    """
    target, _, metric = name.partition("/")
    try:
        row = targets.get(target)
    except ValueError as error:
        raise ValueError(f"{name!r}: {error}") from error
    if metric not in NAMES[row.kind]:
        raise ValueError(
            f"{name!r}: expected <target>/<metric>; metrics of {target!r} (kind "
            f"{row.kind.value}) are {', '.join(NAMES[row.kind])}"
        )
    return row, describe_metric(metric)


def check_best(name: str, measured: Iterable[str]) -> None:
    """Checks that a metric can choose the best checkpoint.

    Args:
      name: `<target>/<metric>`.
      measured: the names of the targets that the run evaluates.

    Raises:
      ValueError: the metric is unknown or not better when higher, or its target is
        not measured.
    """
    measured = tuple(measured)
    row, known = find(name)
    better = [x for x in NAMES[row.kind] if describe_metric(x).better == "higher"]
    if known.better != "higher":
        raise ValueError(
            f"{name!r}: expected a metric for which higher is better: "
            + (", ".join(f"{row.name}/{x}" for x in better) or "this kind has none")
        )
    if row.name not in measured:
        raise ValueError(
            f"{name!r}: {row.name!r} is not measured in this run, which measures "
            f"{', '.join(measured) or 'nothing'}"
        )
