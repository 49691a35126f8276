"""Which metrics each kind of target has, and what they mean."""

import dataclasses
from collections.abc import Iterable

from rahf import targets
from rahf.evaluation.metrics.accumulator import Accumulator
from rahf.evaluation.metrics.captions import CaptionMetrics
from rahf.evaluation.metrics.heatmaps import FIXATED, HeatmapMetrics
from rahf.evaluation.metrics.scores import ScoreMetrics
from rahf.evaluation.metrics.word_presence import WordPresenceMetrics
from rahf.evaluation.metrics.words import WordMetrics

#: A kind without an entry would be trained on, and not evaluated.
METRICS: dict[targets.Kind, type[Accumulator]] = {
    targets.Kind.HEATMAP: HeatmapMetrics,
    targets.Kind.SCORE: ScoreMetrics,
    targets.Kind.WORDS: WordMetrics,
    targets.Kind.CAPTION: CaptionMetrics,
    targets.Kind.WORD_PRESENCE: WordPresenceMetrics,
}

#: The names that each kind computes, counts aside; one that no example defines is absent.
NAMES: dict[targets.Kind, tuple[str, ...]] = {
    targets.Kind.HEATMAP: ("mse", "mse_empty", *FIXATED),
    targets.Kind.SCORE: ("plcc", "srcc", "mse"),
    targets.Kind.WORDS: (
        *("precision_micro", "recall_micro", "f1_micro"),
        *("precision_mean", "recall_mean", "f1_mean", "average_precision"),
    ),
    targets.Kind.CAPTION: ("nll", "nll_unigram", "perplexity"),
    targets.Kind.WORD_PRESENCE: ("average_precision_mean",),
}

#: The metrics to follow during training, the most telling first.
HEADLINES: dict[targets.Kind, tuple[str, ...]] = {
    targets.Kind.HEATMAP: ("cc", "auc_judd"),
    targets.Kind.SCORE: ("plcc",),
    targets.Kind.WORDS: ("f1_micro",),
    targets.Kind.CAPTION: ("nll",),
    targets.Kind.WORD_PRESENCE: ("average_precision_mean",),
}


@dataclasses.dataclass(frozen=True)
class MetricDescription:
    """What a reader needs to know of one metric.

    Attributes:
      title: how it is written in a table.
      better: "higher", "lower", or "" for a count.
      text: one line.
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
        "AUC-Judd", "higher", "telling marked pixels from others; .5 is chance"
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
    "f1_micro": MetricDescription("F1 micro", "higher", "harmonic mean of the two"),
    "precision_mean": MetricDescription(
        "P mean", "higher", "precision per image, averaged"
    ),
    "recall_mean": MetricDescription("R mean", "higher", "recall per image, averaged"),
    "f1_mean": MetricDescription("F1 mean", "higher", "F1 per image, averaged"),
    "average_precision": MetricDescription(
        "AP", "higher", "area under precision over recall, words pooled"
    ),
    "average_precision_mean": MetricDescription(
        "AP mean", "higher", "area under precision over recall per image, averaged"
    ),
    "nll": MetricDescription("NLL", "lower", "of the next piece of a caption, in nats"),
    "nll_unigram": MetricDescription(
        "NLL, unigram", "", "of who knows only how often each piece occurs"
    ),
    "perplexity": MetricDescription("perplexity", "lower", "exp(NLL)"),
    "accuracy": MetricDescription(
        "accuracy", "higher", "points for agreeing with people, ties as in Pick-a-Pic"
    ),
    "low": MetricDescription("from", "", "lower end of its 95 % bootstrap interval"),
    "high": MetricDescription("to", "", "upper end of its 95 % bootstrap interval"),
    "accuracy_without_ties": MetricDescription(
        "no ties", "higher", "accuracy over pairs that people did not call a tie"
    ),
    "threshold": MetricDescription(
        "tie up to", "", "differences of scores that count as a tie"
    ),
    "ties_called": MetricDescription("called ties", "", "share of pairs called a tie"),
    "n_compared": MetricDescription("pairs", "", "pairs measured"),
    "n_ties": MetricDescription("ties", "", "pairs that people called a tie"),
    "n_prompts": MetricDescription("prompts", "", "prompts that the pairs are of"),
    "perfect": MetricDescription(
        "all equal", "higher", "images whose raters all say the same"
    ),
    "within_one": MetricDescription(
        "all within 1", "higher", "images whose highest and lowest answer are 1 apart"
    ),
    "pairs_perfect": MetricDescription(
        "pairs equal", "higher", "two raters say the same; mean over images"
    ),
    "pairs_within_one": MetricDescription(
        "pairs within 1", "higher", "two raters are at most 1 apart; mean over images"
    ),
    "alpha": MetricDescription(
        "alpha", "higher", "Krippendorff's, of intervals; 1 perfect, 0 chance"
    ),
    "alpha_ordinal": MetricDescription(
        "alpha, ordinal", "higher", "Krippendorff's, of ranks"
    ),
    "alpha_nominal": MetricDescription(
        "alpha", "higher", "Krippendorff's, of marked or not; 1 perfect, 0 chance"
    ),
    "kappa": MetricDescription(
        "kappa", "higher", "Cohen's, of marked or not; pairs weighted by their words"
    ),
    "iou": MetricDescription(
        "IoU", "higher", "of two raters' disks, where at least one has marked something"
    ),
    "same_presence": MetricDescription(
        "same presence", "higher", "two raters agree whether there is anything to mark"
    ),
    "bias": MetricDescription(
        "bias", "", "mean of own answer - mean of the others', in points"
    ),
    "deviation": MetricDescription(
        "deviation", "lower", "mean distance from the mean of the others, in points"
    ),
    "weight": MetricDescription(
        "weight", "", "what --weights=reliability gives; 1 is average"
    ),
    "seconds": MetricDescription("seconds", "", "median time for a rating"),
    "n_ratings": MetricDescription("images", "", "images rated"),
    "n_answers": MetricDescription("answers", "", "answers compared"),
    "n_pairs": MetricDescription("pairs", "", "pairs of raters compared"),
    "n": MetricDescription("images", "", "images measured"),
    "n_empty": MetricDescription("GT=0", "", "images whose true map is empty"),
    "n_nonempty": MetricDescription("GT>0", "", "images with a marked pixel"),
    "n_whole": MetricDescription("whole", "", "images that show their whole prompt"),
    "n_pieces": MetricDescription("pieces", "", "pieces of captions, ends included"),
    "n_words": MetricDescription("words", "", "words measured"),
    "n_misaligned": MetricDescription("misaligned", "", "words that are misaligned"),
}


def describe_metric(name: str) -> MetricDescription:
    """Returns the meaning of a metric; an unknown one is titled by its name."""
    return DESCRIPTIONS.get(name, MetricDescription(name, "", ""))


def find(name: str) -> tuple[targets.Target, MetricDescription]:
    """Returns the target and the meaning of the metric that `<target>/<metric>` names.

    Args:
      name: as in metrics.jsonl, such as "plausibility/plcc".

    Raises:
      ValueError: there is no such target, or its kind has no such metric.
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
      measured: names of the targets that the run's evaluation measures.

    Raises:
      ValueError: there is no such metric, its higher values are not better, or its
        target is not measured.
    """
    measured = tuple(measured)
    row, known = find(name)
    better = [x for x in NAMES[row.kind] if describe_metric(x).better == "higher"]
    if known.better != "higher":
        raise ValueError(
            f"{name!r}: expected a metric of which higher is better: "
            + (", ".join(f"{row.name}/{x}" for x in better) or "this kind has none")
        )
    if row.name not in measured:
        raise ValueError(
            f"{name!r}: {row.name!r} is not measured in this run, which measures "
            f"{', '.join(measured) or 'nothing'}"
        )
