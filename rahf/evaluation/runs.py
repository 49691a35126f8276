"""Evaluates a checkpoint, or predictions on disk, as the eval binaries do."""

import copy
import dataclasses
import os
from collections.abc import Sequence
from typing import Any

from rahf import storage
from rahf.baselines import probe
from rahf.checkpoints import provenance, trust
from rahf.checkpoints.restore import restore_for_inference, split_step
from rahf.checkpoints.workdir import CONFIG_FILE, VOCABULARY_FILE, read_config
from rahf.evaluation import trivial
from rahf.evaluation.evaluate import Results
from rahf.evaluation.examples import JudgedExample
from rahf.evaluation.overrides import DATASETS, set_key
from rahf.evaluation.predicted_images import PredictedImages
from rahf.evaluation.results import results_folder
from rahf.evaluation.split import NothingToMeasureError, SplitEvaluator
from rahf.targets import Kind


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationRequest:
    """What to evaluate; the fields match the flags of the eval binaries.

    Attributes:
      checkpoint: the workdir of a run, the folder of one of its steps, or an exported
        folder; None to evaluate `predictions`.
      step: a step, "latest" (default) or "best".
      split: the split of the task.
      batch_size: examples per batch; default `config.eval.batch_size`.
      convention: the convention of the metrics.
      examples: how many records to measure, 0 = all.
      settings: KEY=VALUE settings of the config's task or input, for other data.
      output: the folder for the files; default W/eval/<split>, or that folder beside
        the predictions.
      predictions: what rahf.bin.predict or score wrote, or lines of another tool.
      labels: whose task's labels they are compared with: a workdir or a config; default
        the workdir that the predictions name, or a checkpoint's own.
      baseline: "trivial" to measure what needs no model beside it.
    """

    checkpoint: str | None = None
    step: str | None = None
    split: str = "test"
    batch_size: int | None = None
    convention: str = "rahf"
    examples: int = 0
    settings: Sequence[str] = ()
    output: str | None = None
    predictions: str | None = None
    labels: Any = None
    baseline: str | None = None


class RunEvaluation:
    """A restored checkpoint, ready to be measured.

    Attributes:
      workdir: the workdir, even if the request names the folder of a step.
      request: what to evaluate.
      config, params, step: what the checkpoint holds.
      evaluator: the evaluator of the split.
      folder: the folder of the results.
    """

    def __init__(self, request: EvaluationRequest, kind: Kind | None = None):
        """Restores the checkpoint.

        Args:
          request: what to evaluate.
          kind: the kind of targets to measure; default all.

        Raises:
          ValueError: the checkpoint does not exist, or a setting is unknown.
        """
        self.request = request
        if request.checkpoint is None:
            raise ValueError("expected a checkpoint or predictions to evaluate")
        self.workdir, step = split_step(request.checkpoint, request.step)
        self.config, self.params, self.step = restore_for_inference(self.workdir, step)
        if request.labels is not None:
            use_labels(self.config, read_labels(request.labels)[1])
        self.evaluator = make_evaluator(self.config, request, kind)
        self.folder = results_folder(self.workdir, request.split)

    def evaluate(self) -> Results:
        """Measures the checkpoint."""
        results = self.evaluator(self.params)
        results.facts |= {"checkpoint": self.workdir, "step": self.step}
        return results

    def examples(self, count: int, results: Results) -> list[JudgedExample]:
        """Returns the first records with predictions and labels."""
        del results
        return self.evaluator.predict_examples(self.params, count)

    def __str__(self) -> str:
        return f"{self.workdir}, step {self.step}"


class PredictionsEvaluation:
    """Predictions on disk, ready to be measured.

    Attributes:
      request: what to evaluate.
      images: the predictions.
      labels: what names the labels.
      config: the config of the labels' task.
      evaluator: the evaluator of the split.
      folder: the folder of the results.
    """

    def __init__(self, request: EvaluationRequest, kind: Kind | None = None):
        """Reads the predictions.

        Args:
          request: what to evaluate.
          kind: the kind of targets to measure; default all.

        Raises:
          ValueError: they cannot be read, or it is not known what to compare with.
        """
        self.request = request
        self.images = PredictedImages(request.predictions or "")
        self.labels, self.config = read_labels(request.labels, self.images)
        self.evaluator = make_evaluator(self.config, request, kind)
        self.folder = results_folder(self.images.folder, request.split)

    def evaluate(self) -> Results:
        """Measures the predictions."""
        results = self.evaluator.measure_predicted(self.images)
        results.facts |= {
            "predictions": self.images.source,
            "labels": self.labels,
            **self.images.made_by,
        }
        return results

    def examples(self, count: int, results: Results) -> list[JudgedExample]:
        """Returns the first measured records with predictions and labels."""
        uids = list(dict.fromkeys(row["uid"] for row in results.rows))[:count]
        return self.evaluator.predicted_examples(self.images, set(uids))

    def __str__(self) -> str:
        return f"{self.images.source}, labels of {self.labels}"


def open_evaluation(
    request: EvaluationRequest, kind: Kind | None = None
) -> RunEvaluation | PredictionsEvaluation:
    """Prepares what a request names; raises ValueError where it cannot be read."""
    named = request.checkpoint or request.predictions
    if named and probe.is_probe(named):
        raise ValueError(
            f"{named} is a probe, whose strength is in its {probe.ABOUT_FILE}; to "
            f"measure it on other data, predict first (rahf.bin.predict --checkpoint="
            f"{named}) and name the folder of predictions"
        )
    which = RunEvaluation if request.predictions is None else PredictionsEvaluation
    return which(request, kind)


def make_evaluator(
    config, request: EvaluationRequest, kind: Kind | None
) -> SplitEvaluator:
    """Returns the evaluator of a request, whose settings change the config."""
    for setting in request.settings:
        set_key(config, setting)
        if setting.startswith("task.name=") and config.eval.get("task"):
            config.eval.task = ""  # the one that is asked for counts
    return SplitEvaluator(
        config,
        split=request.split,
        kind=kind,
        examples=request.examples,
        batch_size=request.batch_size,
        convention=request.convention,
    )


def use_labels(config, labels) -> None:
    """Makes a run's config measure on the labels of another's task.

    Args:
      config: the config of the run; changed in place. Its own task stays if it is of
        the same dataset, since the prompts of variants differ.
      labels: the config of the labels' task.
    """
    for part in filter(labels.input.__contains__, DATASETS):
        config.input[part] = copy.deepcopy(labels.input[part])
    own, theirs = (each.eval.get("task") or each.task.name for each in (config, labels))
    if provenance.dataset_of(own) != provenance.dataset_of(theirs) or own == theirs:
        config.task.name, config.eval.task = theirs, ""


def read_labels(labels: Any, images: PredictedImages | None = None) -> tuple[str, Any]:
    """Returns the name and the config of the task whose labels are compared with.

    Args:
      labels: a workdir, a step's folder, a config, or None.
      images: the predictions, whose lines may name a workdir instead.

    Raises:
      ValueError: there is no such workdir.
    """
    if labels is not None and not isinstance(labels, str | os.PathLike):
        return f"task {labels.task.name}", labels
    workdir = labels
    if workdir is None:
        named = str(images and images.made_by.get("checkpoint") or "")
        workdir = named.rpartition(", step ")[0]
        if not workdir or not (storage.place(workdir) / CONFIG_FILE).is_file():
            lacks = f"the workdir {workdir} that they name is not there"
            raise ValueError(
                f"{images and images.source}: which labels are the predictions compared "
                f"with? {lacks if workdir else 'They name no workdir'}; name one, or a "
                "config, with --labels"
            )
    workdir, _ = split_step(workdir)
    config = read_config(workdir)
    trust.check_modules(config, workdir)
    config.input.vocabulary = str(storage.place(workdir) / VOCABULARY_FILE)
    return os.fspath(workdir), config


def measure(
    run: RunEvaluation | PredictionsEvaluation, name: str
) -> tuple[Results, list[str]]:
    """Measures and writes the results.

    Args:
      run: what to measure.
      name: the name of the files, such as "scores".

    Returns:
      The results and the paths of `<name>.json` and `<name>.examples.jsonl`.

    Raises:
      ValueError: the files cannot be written (checked before measuring), or there
        is nothing to measure.
    """
    request, files = run.request, [f"{name}.json", f"{name}.examples.jsonl"]
    try:
        folder = storage.check_folder(request.output or run.folder, files)
    except ValueError as error:
        if request.output:
            raise
        raise ValueError(f"{error}; choose another folder with --output") from error
    results = run.evaluate()
    if not any(values["n"] for values in results.metrics.values()):
        raise ValueError(f"nothing to measure: {'; '.join(results.notes())}")
    if request.baseline:
        beside = trivial.measure(run.config, run.evaluator).metrics
        results.facts[trivial.KEY] = beside
        results.facts["not_beaten"] = trivial.not_beaten(results.metrics, beside)
    if request.settings:
        results.facts["set"] = list(request.settings)
    return results, results.write(folder, name)


def evaluate_run(request: EvaluationRequest, kind: Kind, name: str) -> str:
    """Evaluates the targets of one kind and writes the files.

    Args:
      request: what to evaluate.
      kind: the kind of targets.
      name: the name of the files, such as "scores".

    Returns:
      The table as text, with the files written and what was not measured; or, of a model
      without targets of the kind, that there is nothing to measure.

    Raises:
      ValueError: see `RunEvaluation` and `PredictionsEvaluation`.
    """
    try:
        run = open_evaluation(request, kind)
    except NothingToMeasureError as nothing:
        return f"nothing to measure, and nothing written: {nothing}"
    results, paths = measure(run, name)
    parts = [f"written: {' '.join(paths)}\n{results.table()}", *results.notes()]
    i: Any = run.config.input
    if cut := results.facts["truncated"]:
        parts.append(
            f"{cut:,} prompts are longer than the model reads (config.input."
            f"text_length={i.text_length}, target_length={i.target_length}); words cut "
            "off are not measured"
        )
    parts.append(
        f"{run}, {request.split} split, "
        f"{request.convention} convention; {results.facts['seconds']:.1f} s. "
        "^ higher is better, v lower."
    )
    return "\n\n".join(parts)
