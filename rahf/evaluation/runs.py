"""Evaluates a checkpoint as the eval binaries do: restore, measure, write, report."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

from rahf import storage
from rahf.checkpoints.restore import restore_for_inference, split_step
from rahf.evaluation.evaluate import Results
from rahf.evaluation.overrides import set_key
from rahf.evaluation.results import results_folder
from rahf.evaluation.split import SplitEvaluator
from rahf.targets import Kind


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationRequest:
    """What to evaluate; the fields match the flags of the eval binaries.

    Attributes:
      checkpoint: the workdir of a run, the folder of one of its steps, or an exported
        folder.
      step: a step, "latest" (default) or "best".
      split: the split of the task.
      batch_size: examples per batch; default `config.eval.batch_size`.
      convention: the convention of the metrics.
      examples: how many records to measure, 0 = all.
      settings: KEY=VALUE settings of the config's task or input, for other data.
      output: the folder for the files; default W/eval/<split>.
    """

    checkpoint: str
    step: str | None = None
    split: str = "test"
    batch_size: int | None = None
    convention: str = "rahf"
    examples: int = 0
    settings: Sequence[str] = ()
    output: str | None = None


class RunEvaluation:
    """A restored checkpoint, ready to be measured.

    Attributes:
      workdir: the workdir, even if the request names the folder of a step.
      config, params, step: what the checkpoint holds.
      evaluator: the evaluator of the split.
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
        self.workdir, step = split_step(request.checkpoint, request.step)
        self.config, self.params, self.step = restore_for_inference(self.workdir, step)
        for setting in request.settings:
            set_key(self.config, setting)
            if setting.startswith("task.name=") and self.config.eval.get("task"):
                self.config.eval.task = ""  # the one that is asked for counts
        self.evaluator = SplitEvaluator(
            self.config,
            split=request.split,
            kind=kind,
            examples=request.examples,
            batch_size=request.batch_size,
            convention=request.convention,
        )

    def measure(self, name: str) -> tuple[Results, list[str]]:
        """Measures the checkpoint and writes the results.

        Args:
          name: the name of the files, such as "scores".

        Returns:
          The results and the paths of `<name>.json` and `<name>.examples.jsonl`.

        Raises:
          ValueError: the files cannot be written (checked before measuring), or there
            is nothing to measure.
        """
        folder = self._check_output(name)
        results = self.evaluator(self.params)
        if not any(values["n"] for values in results.metrics.values()):
            raise ValueError(f"nothing to measure: {'; '.join(results.notes())}")
        results.facts |= {"checkpoint": self.workdir, "step": self.step}
        if self.request.settings:
            results.facts["set"] = list(self.request.settings)
        return results, results.write(folder, name)

    def _check_output(self, name: str) -> pathlib.Path:
        request, files = self.request, [f"{name}.json", f"{name}.examples.jsonl"]
        default = results_folder(self.workdir, request.split)
        try:
            return storage.check_folder(request.output or default, files)
        except ValueError as error:
            if request.output:
                raise
            raise ValueError(f"{error}; choose another folder with --output") from error


def evaluate_run(request: EvaluationRequest, kind: Kind, name: str) -> str:
    """Evaluates the targets of one kind and writes the files.

    Args:
      request: what to evaluate.
      kind: the kind of targets.
      name: the name of the files, such as "scores".

    Returns:
      The table as text, with the files written and what was not measured.

    Raises:
      ValueError: see `RunEvaluation`.
    """
    run = RunEvaluation(request, kind)
    results, paths = run.measure(name)
    parts = [f"written: {' '.join(paths)}\n{results.table()}", *results.notes()]
    i: Any = run.config.input
    if cut := results.facts["truncated"]:
        parts.append(
            f"{cut:,} prompts are longer than the model reads (config.input."
            f"text_length={i.text_length}, target_length={i.target_length}); words cut "
            "off are not measured"
        )
    parts.append(
        f"{run.workdir}, step {run.step}, {request.split} split, "
        f"{request.convention} convention; {results.facts['seconds']:.1f} s. "
        "^ higher is better, v lower."
    )
    return "\n\n".join(parts)
