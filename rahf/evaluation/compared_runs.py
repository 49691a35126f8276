"""Measures the runs of a comparison: checkpoints, and predictions on disk."""

import collections
import dataclasses
import pathlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from rahf import storage
from rahf.checkpoints.restore import split_step
from rahf.checkpoints.workdir import CHECKPOINTS, CONFIG_FILE
from rahf.evaluation.comparison import ComparedModel, MeasuredRun
from rahf.evaluation.examples import JudgedExample
from rahf.evaluation.runs import (
    EvaluationRequest,
    PredictionsEvaluation,
    RunEvaluation,
    open_evaluation,
)
from rahf.inference import kept_programs


@dataclasses.dataclass(frozen=True, kw_only=True)
class ComparedRuns:
    """Which runs are compared, and on what.

    Attributes:
      models: the paths of each model's runs, by its name.
      split, convention, batch_size, examples, labels: see `EvaluationRequest`; without
        labels, checkpoints have those of their own task, and predictions those of the
        first checkpoint.
    """

    models: Mapping[str, Sequence[str]]
    split: str = "test"
    convention: str = "rahf"
    batch_size: int | None = None
    examples: int = 0
    labels: Any = None

    def measure(self) -> list[ComparedModel]:
        """Measures every run; raises ValueError as the eval binaries do."""
        kept_programs.use()
        models = []
        for name, paths in self.models.items():
            runs = []
            for path in paths:
                run = self._open(path)
                print(f"{name}: {run}", flush=True)
                results = run.evaluate()
                if not any(values["n"] for values in results.metrics.values()):
                    told = "; ".join(results.notes())
                    raise ValueError(f"{path}: nothing to measure: {told}")
                side = int(run.config.input.image_size)
                runs.append(
                    MeasuredRun(source=str(run), results=results, image_size=side)
                )
            models.append(ComparedModel(name, runs))
        return models

    def examples_of(self, uids: Collection[str]) -> dict[str, dict[str, JudgedExample]]:
        """Returns `{model: {uid: example}}` of the first run of each model."""
        found = {}
        for name, paths in self.models.items():
            run = self._open(paths[0])
            if isinstance(run, PredictionsEvaluation):
                judged = run.evaluator.predicted_examples(run.images, uids)
            else:
                judged = run.evaluator.predict_examples(run.params, uids=uids)
            found[name] = {example.name: example for example in judged}
        return found

    def workdirs(self) -> dict[str, list[str]]:
        """Returns the workdirs of each model's runs, each once."""
        found = {
            name: list(
                dict.fromkeys(
                    str(split_step(path)[0]) for path in filter(is_checkpoint, paths)
                )
            )
            for name, paths in self.models.items()
        }
        return {name: paths for name, paths in found.items() if paths}

    def _open(self, path: str) -> RunEvaluation | PredictionsEvaluation:
        request = EvaluationRequest(
            split=self.split,
            batch_size=self.batch_size,
            convention=self.convention,
            examples=self.examples,
            labels=self.labels,
        )
        if is_checkpoint(path):
            return open_evaluation(dataclasses.replace(request, checkpoint=path))
        labels = self.labels
        if labels is None:
            every = [each for paths in self.models.values() for each in paths]
            labels = next(filter(is_checkpoint, every), None)
        return open_evaluation(
            dataclasses.replace(request, predictions=path, labels=labels)
        )


def is_checkpoint(path: str) -> bool:
    """Whether a path is of a workdir, one of its steps or an export."""
    place = storage.place(path, "a run")
    return (place / CONFIG_FILE).is_file() or place.parent.name == CHECKPOINTS


def name_models(
    paths: Sequence[str], groups: Sequence[str] = ()
) -> dict[str, tuple[str, ...]]:
    """Names the models of a comparison.

    Args:
      paths: runs, each a model: named by the last part of its path, with as many more
        as tell them apart.
      groups: "name=path,path,...": the runs of one model.

    Returns:
      `{name: paths}`, in this order.

    Raises:
      ValueError: a group is malformed, a name or a run appears twice.
    """
    models: dict[str, tuple[str, ...]] = {}
    for path, name in zip(paths, _short_names(paths), strict=True):
        models[name] = (path,)
    for text in groups:
        name, _, listed = text.partition("=")
        runs = tuple(filter(None, listed.split(",")))
        if not name or not runs:
            raise ValueError(
                f"--group={text}: expected NAME=W1,W2,..., the runs of one model"
            )
        if name in models:
            raise ValueError(f"--group={text}: there is another model {name!r}")
        models[name] = runs
    every = [path for runs in models.values() for path in runs]
    for path, times in collections.Counter(every).items():
        if times > 1:
            raise ValueError(f"{path} appears {times} times; a run is compared once")
    return models


def _short_names(paths: Sequence[str]) -> list[str]:
    whole = [
        [part for part in pathlib.PurePath(path).parts if part != CHECKPOINTS]
        for path in paths
    ]
    for size in range(1, 1 + max(map(len, whole), default=0)):
        names = ["/".join(parts[-size:]).strip("/") for parts in whole]
        steps = [name.isdecimal() for name in names]
        if len(set(names)) == len(names) and not any(steps):
            return names
    return list(paths)
