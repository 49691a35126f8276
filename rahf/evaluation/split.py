"""Evaluates a model on a split of its task, for the loop and the binaries."""

import copy
import functools
import operator
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from rahf import targets
from rahf.evaluation.evaluate import Batch, Infos, Results, evaluate
from rahf.evaluation.examples import JudgedExample
from rahf.evaluation.metrics import table as metrics_table
from rahf.evaluation.metrics.table import METRICS
from rahf.evaluation.predicted_batches import PREDICTED, Matching, PredictedBatches
from rahf.evaluation.predicted_images import PredictedImages
from rahf.inference.predict_step import make_predict_step
from rahf.input import vocabulary
from rahf.input.loader import asked_targets, make_eval_batches
from rahf.input.registry import import_modules
from rahf.models import passes
from rahf.targets import Kind


def _as_they_are(batches):
    return batches


class NothingToMeasureError(ValueError):
    """A task asks for no target of the kind that is to be measured."""


class SplitEvaluator:
    """Evaluates parameters any number of times; compiles once."""

    def __init__(
        self,
        config,
        *,
        split: str | None = None,
        kind: Kind | None = None,
        examples: int | None = None,
        batch_size: int | None = None,
        convention: str = "rahf",
    ):
        """Prepares the evaluation; nothing is read or compiled yet.

        Args:
          config: the training config.
          split: the split; default `config.eval.split`.
          kind: the kind of targets to measure; default all that have metrics.
          examples: how many records, 0 = all; default `config.eval.examples`.
          batch_size: examples per batch; default `config.eval.batch_size`.
          convention: the convention of the metrics.
        """
        config = self._config = _measured(config)
        self._split = config.eval.split if split is None else split
        self._size = batch_size or config.eval.batch_size
        self._examples = config.eval.examples if examples is None else examples
        self._convention = convention
        kinds = METRICS if kind is None else [kind]
        rows = [row for row in _task_targets(config) if row.kind in kinds]
        rows = list(targets.ordered({row.name: row for row in rows}).values())
        # A task may list targets that no example asks for, so that a later run finds
        # their heads.
        asked = asked_targets(config)
        self._unasked = [row.name for row in rows if row.name not in asked]
        rows = [row for row in rows if row.name in asked]
        if kind is not None and not rows:
            raise NothingToMeasureError(
                f"config.task.name={config.task.name!r} asks for {', '.join(asked)}: "
                f"none of them is of kind {kind.value}"
            )
        #: The names of the targets measured.
        self.targets = tuple(row.name for row in rows)
        marks = vocabulary.load(config.input.vocabulary).mark_ids
        self._passes = [
            (names, make_predict_step(config, marks, names))
            for names in passes.targets_of_programs(config, self.targets)
        ]

    def check(self) -> None:
        """Checks before a run what would make its first evaluation fail.

        Raises:
          ValueError: the split does not exist, or `config.checkpoint.best_metric` is
            unknown, is not better when higher, or, if best checkpoints are kept,
            belongs to a target that is not measured.
        """
        best, keeps = (self._config.checkpoint[k] for k in ("best_metric", "keep_best"))
        try:
            metrics_table.check_best(
                best, self.targets if keeps else [best.partition("/")[0]]
            )
        except ValueError as error:
            raise ValueError(f"config.checkpoint.best_metric={error}") from error
        for names, _ in self._passes[:1]:
            self._batches(names, 1)

    def __call__(self, params, *, progress: bool = True) -> Results:
        """Returns the results for these parameters."""
        return self._measure(
            [
                (names, functools.partial(predict, params))
                for names, predict in self._passes
            ],
            progress,
        )

    def measure(self, predict: Callable[[Batch], Mapping[str, Any]]) -> Results:
        """Returns the results for another predict function, all targets at once."""
        return self._measure([(self.targets, predict)], progress=False)

    def measure_predicted(
        self, images: PredictedImages, *, progress: bool = True
    ) -> Results:
        """Measures predictions on disk against the labels of the split.

        Args:
          images: the predictions.
          progress: whether to draw a progress bar on stderr.

        Returns:
          The results; their facts also have the counts of
          `rahf.evaluation.predicted_batches.Matching`, with its notes as "unmatched".

        Raises:
          ValueError: no prediction is of an image of the split, or one does not fit
            its label.
        """
        matching = Matching(images)
        names = tuple(filter(matching.has, self.targets))
        results = self._measure(
            [(names, operator.itemgetter(PREDICTED))] if names else [],
            progress,
            lambda batches: PredictedBatches(batches, names, matching),
        )
        if names and not matching.matched:
            first = ", ".join(map(repr, images.examples()))
            known = ", ".join(map(repr, list(matching.unmatched)[:3]))
            raise ValueError(
                f"{images.source}: none of its {len(images):,} predictions is of an "
                f"image of the {self._split} split: they are called {first}, the "
                f"labelled images {known or 'nothing'}; are they of another split, or "
                "of other data?"
            )
        results.facts |= matching.counts() | {"unmatched": matching.notes()}
        results.facts["not_measured"] |= dict.fromkeys(
            (name for name in self.targets if name not in names),
            f"{images.source} has no predictions of it",
        )
        return results

    def _measure(self, passes, progress: bool, beside=_as_they_are):
        results = Results(
            metrics={},
            convention=self._convention,
            facts={
                "split": self._split,
                "examples": self._examples,
                "seconds": 0.0,
                "bad_records": 0,
                "truncated": 0,
            },
        )
        for names, predict in passes:
            batches = beside(self._batches(names, self._examples))
            found = evaluate(
                predict,
                batches,
                names,
                convention=self._convention,
                progress=progress,
            )
            results.metrics |= found.metrics
            results.rows += found.rows
            results.facts["seconds"] += found.facts["seconds"]
            results.facts["truncated"] = max(
                results.facts["truncated"], found.facts["truncated"]
            )
            results.facts["bad_records"] += batches.bad_records
        results.metrics = targets.ordered(results.metrics)
        results.facts["not_measured"] = dict.fromkeys(
            self._unasked,
            f"no example of config.task.name={self._config.task.name!r} asks for it",
        ) | {
            name: f"no example of the {self._split} split is labelled"
            for name, values in results.metrics.items()
            if not values["n"]
        }
        return results

    def predict_examples(
        self, params, count: int = 0, uids: Collection[str] | None = None
    ) -> list[JudgedExample]:
        """Predicts records of the split, for a report.

        Args:
          params: the model's parameters.
          count: how many records, from the first; unless `uids` are given.
          uids: the names of the records.

        Returns:
          The examples in order, with predictions and labels.
        """
        if uids is None and count < 1:
            return []  # the loader takes 0 to mean all
        passes = [
            (names, functools.partial(predict, params))
            for names, predict in self._passes
        ]
        return self._judge(passes, count if uids is None else 0, uids)

    def predicted_examples(
        self, images: PredictedImages, uids: Collection[str]
    ) -> list[JudgedExample]:
        """Returns labelled records of these names with predictions on disk."""
        matching = Matching(images)
        names = tuple(filter(matching.has, self.targets))
        beside = lambda batches: PredictedBatches(batches, names, matching)
        return self._judge([(names, operator.itemgetter(PREDICTED))], 0, uids, beside)

    def _judge(
        self, passes, count: int, uids: Collection[str] | None, beside=_as_they_are
    ) -> list[JudgedExample]:
        fields: dict[str, dict[str, Any]] = {}
        for names, predict in passes:
            for batch, infos in beside(self._batches(names, count)):
                wanted = [
                    (name, index, str(infos[index]["uid"]))
                    for name, index in _answered(batch, infos, names)
                    if targets.get(name).kind in _ADD  # or there is nothing to draw
                ]
                wanted = [each for each in wanted if uids is None or each[2] in uids]
                outputs = jax.device_get(predict(batch)) if wanted else {}
                for name, index, uid in wanted:
                    example = fields.setdefault(uid, _blank(batch, infos, index, uid))
                    _ADD[targets.get(name).kind](example, name, index, outputs, batch)
        return [JudgedExample(**example) for example in fields.values()]

    def _batches(self, names: Sequence[str], examples: int):
        return make_eval_batches(
            self._config,
            split=self._split,
            targets=tuple(names),
            batch_size=self._size,
            examples=examples,
        )


def _measured(config):
    """Returns the config with `eval.task`, if it has one, as its task."""
    name = config.eval.get("task")
    if not name or name == config.task.name:
        return config
    config = copy.deepcopy(config)
    config.task.name = name
    return config


def _task_targets(config) -> list[targets.Target]:
    """Returns the task's rows; imports the user's modules only if one is unknown.

    The modules of the embedded tasks would import TensorFlow.
    """
    try:
        return targets.select(config.task.targets)
    except ValueError:
        import_modules(config)
        return targets.select(config.task.targets)


def _answered(
    batch: Batch, infos: Infos, names: Sequence[str]
) -> Iterator[tuple[str, int]]:
    for name in names:
        for index in np.flatnonzero(np.asarray(batch["weights"][name]) > 0):
            if index < len(infos):
                yield name, int(index)


def _blank(batch: Batch, infos: Infos, index: int, uid: str) -> dict[str, Any]:
    return {
        "image": np.asarray(batch["image"][index]),
        "prompt": infos[index]["prompt"],
        "name": uid,
        "scores": {},
        "heatmaps": {},
        "true_scores": {},
        "true_heatmaps": {},
    }


def _add_heatmap(example, name, index, outputs, batch) -> None:
    example["heatmaps"][name] = outputs[name][index]
    example["true_heatmaps"][name] = batch["targets"][name][index]


def _add_score(example, name, index, outputs, batch) -> None:
    example["scores"][name] = float(outputs[name][index])
    example["true_scores"][name] = float(batch["targets"][name][index])


def _add_words(example, name, index, outputs, batch) -> None:
    at = np.asarray(batch["word_ends"][index]) > 0
    example["words"] = outputs[name][index][at].tolist()
    example["cut"] = targets.get(name).cut
    example["true_words"] = np.asarray(batch["word_labels"][index])[at].tolist()


_ADD: Mapping[Kind, Callable[..., None]] = {
    Kind.HEATMAP: _add_heatmap,
    Kind.SCORE: _add_score,
    Kind.WORDS: _add_words,
}
