"""What needs no model: the numbers that a model must beat.

A score: the mean of the training labels. A heatmap: their mean, a centre prior. Words:
every word is called misaligned, which has the highest F1 that words can have without
looking; its precision is the share of misaligned words.
"""

import contextlib
import copy
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from rahf import targets
from rahf.evaluation.evaluate import Batch, Results
from rahf.evaluation.metrics.table import describe_metric
from rahf.evaluation.split import SplitEvaluator
from rahf.input.loader import make_train_input
from rahf.targets import Kind

#: The facts of results that hold what is trivial.
KEY = "trivial"
#: Training records whose labels make the means; a mean of scores is then good to .01.
RECORDS = 1000
#: What a model must be better in. A constant score has no correlation, and calling
#: every word misaligned misses none.
DECISIVE: Mapping[Kind, tuple[str, ...]] = {
    Kind.SCORE: ("mse",),
    Kind.HEATMAP: ("cc", "mse"),
    Kind.WORDS: ("f1_micro", "average_precision"),
}
_BATCH = 10


@dataclasses.dataclass(frozen=True)
class TrivialAnswers:
    """The same answers for every image.

    Attributes:
      answers: target -> float32[], or float32[S, S] of a heatmap.
    """

    answers: Mapping[str, np.ndarray]

    @classmethod
    def learn(cls, config, names: tuple[str, ...], records: int = RECORDS):
        """Reads training labels, as they are drawn for training.

        Args:
          config: the training config; images and labels are not augmented.
          names: scores, heatmaps and words.
          records: the number of records, at most those that there are; of a mixture,
            as many of each of its tasks.

        Raises:
          ValueError: there are no training data, or none has one of the labels.
        """
        config = copy.deepcopy(config)
        with config.unlocked():
            config.input.update(batch_size=_BATCH, workers=0, cache=0)
            if "augment" in config.input:
                config.input.augment.update(crop=1.0, flip=False, colour=0.0)
        sums: dict[str, Any] = dict.fromkeys(names, 0.0)
        counts = dict.fromkeys(names, 0.0)
        with contextlib.closing(make_train_input(config)) as batches:
            known = getattr(batches, "records", lambda: None)()
            wanted = min(records, known or records)
            for _ in range(-(-wanted // _BATCH) * max(len(config.task.targets), 1)):
                batch = next(batches)
                for name in names:
                    label = _LABELS[targets.get(name).kind](batch, name)
                    weight = np.asarray(batch["weights"][name])
                    sums[name] = sums[name] + np.tensordot(weight, label, axes=1)
                    counts[name] += weight.sum()
                if min(counts.values()) >= wanted:
                    break
        if without := [name for name in names if not counts[name]]:
            raise ValueError(
                f"--baseline=trivial: none of the training records has a label for "
                f"{', '.join(without)}"
            )
        return cls({k: np.asarray(sums[k] / counts[k], np.float32) for k in names})

    def __call__(self, batch: Batch) -> dict[str, np.ndarray]:
        """Answers a batch as a predict step does."""
        rows = len(batch["image"])
        found = {}
        for name, answer in self.answers.items():
            shape = np.shape(answer)
            if targets.get(name).kind is Kind.WORDS:
                shape = np.shape(batch["word_ends"])[1:]
            found[name] = np.broadcast_to(answer, (rows, *shape))
        return found


def _score(batch: Batch, name: str) -> np.ndarray:
    return np.asarray(batch["targets"][name], np.float64)


def _word(batch: Batch, name: str) -> np.ndarray:
    del name
    return np.ones(len(batch["image"]))  # every word is called misaligned


_LABELS: Mapping[Kind, Callable[[Batch, str], np.ndarray]] = {
    Kind.SCORE: _score,
    Kind.HEATMAP: _score,
    Kind.WORDS: _word,
}


def measure(config, evaluator: SplitEvaluator) -> Results:
    """Measures the trivial answers on the split of an evaluator."""
    names = tuple(n for n in evaluator.targets if targets.get(n).kind in _LABELS)
    return evaluator.measure(TrivialAnswers.learn(config, names))


def not_beaten(
    metrics: Mapping[str, Mapping[str, float]],
    trivial: Mapping[str, Mapping[str, float]],
) -> dict[str, list[str]]:
    """Returns in which metrics a model is not better than what is trivial.

    Args:
      metrics: of the model, {target: {metric: value}}.
      trivial: of `measure`.

    Returns:
      {target: titles of `DECISIVE` metrics}, without targets that are better in all.
    """
    found = {}
    for name, values in metrics.items():
        if name not in trivial or not values.get("n"):
            continue
        for metric in DECISIVE.get(targets.get(name).kind, ()):
            if metric not in values or metric not in trivial[name]:
                continue
            gain = values[metric] - trivial[name][metric]
            described = describe_metric(metric)
            if described.better == "lower":
                gain = -gain
            if gain <= 0:
                found.setdefault(name, []).append(described.title)
    return found
