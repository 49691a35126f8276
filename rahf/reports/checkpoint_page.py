"""The page of a checkpoint or of predictions: curves, result tables, examples."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

from rahf import images, storage, strict_json
from rahf.evaluation import results as eval_results
from rahf.evaluation.evaluate import Results
from rahf.evaluation.examples import JudgedExample
from rahf.evaluation.runs import (
    EvaluationRequest,
    PredictionsEvaluation,
    RunEvaluation,
    measure,
    open_evaluation,
)
from rahf.inference import intervals
from rahf.inference.jobs import read_jobs
from rahf.inference.predictor import load
from rahf.reports import run_page
from rahf.targets import Kind, select


@dataclasses.dataclass(frozen=True, kw_only=True)
class PageRequest:
    """What the page shows.

    Attributes:
      evaluation: the checkpoint or the predictions, and the split.
      shown: how many pictures to show.
      pictures: the user's own images (files, folders, tables), instead of the
        split's.
      prompt: the prompt of images that have none.
      ceiling: path of the JSON file that rahf.bin.scenes_ceiling writes.
      title: the title of the page; default names the task.
      output: path of the page; default report.html in W, or beside the predictions.
    """

    evaluation: EvaluationRequest
    shown: int = 12
    pictures: Sequence[str] = ()
    prompt: str | None = None
    ceiling: str | None = None
    title: str | None = None
    output: str | None = None


def write_checkpoint_page(request: PageRequest) -> pathlib.Path:
    """Writes the page, using the results that the eval binaries left in the workdir.

    Returns:
      The path of the page.

    Raises:
      ValueError: the checkpoint does not exist, the ceiling cannot be read, or the page
        cannot be written.
    """
    if request.pictures and request.evaluation.predictions is not None:
        raise ValueError(
            "images of your own are predicted by a checkpoint: name it with "
            "--checkpoint, without --predictions"
        )
    run = open_evaluation(request.evaluation)
    home = run.workdir if isinstance(run, RunEvaluation) else run.images.folder
    page = storage.check_file(request.output or storage.place(home) / "report.html")
    ceiling = _read_ceiling(request.ceiling) if request.ceiling else None
    results = _results(run)
    if isinstance(run, RunEvaluation):
        results.facts["calibration"] = _calibration(run)
    if request.pictures and isinstance(run, RunEvaluation):
        examples = _predict(request, run)
    else:
        examples = run.examples(request.shown, results)
    facts, curves = _about(run, results)
    return run_page.write_report(
        page,
        title=request.title or f"RAHF on {run.config.task.name}",
        facts=facts,
        curves=curves,
        results=results,
        ceiling=ceiling,
        examples=examples,
    )


def _about(
    run: RunEvaluation | PredictionsEvaluation, results: Results
) -> tuple[dict[str, str], dict[str, list]]:
    """Returns facts for the head of the page, and the curves of training."""
    if isinstance(run, PredictionsEvaluation):
        made_by = run.images.made_by.get("checkpoint")
        return {
            "Predictions": run.images.source,
            **({"Checkpoint": str(made_by)} if made_by else {}),
            "Labels": run.labels,
            "Images": f"{results.facts['matched']:,} of {len(run.images):,} labelled",
        }, {}
    facts = eval_results.describe(run.workdir, run.config, run.params, run.step)
    curves, garbled = run_page.read_log(run.workdir)
    if garbled:
        facts["Log"] = f"{garbled:,} garbled lines of metrics.jsonl were ignored"
        print(facts["Log"])
    return facts, curves


def _calibration(run: RunEvaluation) -> dict[str, Any] | None:
    """Returns the calibration of the checkpoint, None if there is none or it is stale."""
    found = intervals.read_file(run.workdir)
    if found is None or intervals.why_stale(found, run.workdir, run.step, run.params):
        return None
    return found


def _read_ceiling(path: str) -> dict[str, dict[str, float]]:
    try:
        found = strict_json.loads(pathlib.Path(path).read_bytes())
        if all(name and metrics.items() for name, metrics in found.items()):
            return found
    except (ValueError, AttributeError, RecursionError):
        pass
    raise ValueError(
        f"--ceiling={path}: expected the JSON file that rahf.bin.scenes_ceiling writes"
    )


def _results(run: RunEvaluation | PredictionsEvaluation) -> Results:
    """Returns the results in the workdir if they are complete, else measures now."""
    request = run.request
    found = Results(metrics={})
    if isinstance(run, RunEvaluation):
        found = eval_results.read_results(
            run.folder,
            split=request.split,
            step=run.step,
            convention=request.convention,
            examples=request.examples,
        )
    # Word presence only helps the other targets; the training curves show it.
    rows = select(run.evaluator.targets)
    shown = [row.name for row in rows if row.kind != Kind.WORD_PRESENCE]
    if set(shown) - set(found.metrics):
        found, paths = measure(run, "all")
        print("written:", *paths)
    found.metrics = {n: found.metrics[n] for n in shown if n in found.metrics}
    unmeasured = found.facts.get("not_measured", {})
    found.facts["not_measured"] = {n: v for n, v in unmeasured.items() if n in shown}
    return found


def _predict(request: PageRequest, run: RunEvaluation) -> list[JudgedExample]:
    """Predicts the user's images, as examples without truth."""
    named = read_jobs(request.pictures, request.prompt)
    jobs = named[: request.shown]
    if len(jobs) < len(named):
        print(f"{len(jobs)} of {len(named)} images; --examples={len(named)} shows all")
    predictor = load(run.workdir, run.step)
    cut = next((row.cut for row in select(predictor.targets, Kind.WORDS)), 0.5)
    examples = []
    for job in jobs:  # one at a time: pictures may be large
        picture = images.read_image(job.image)
        [prediction] = predictor.predict([picture], [job.prompt])
        examples.append(
            JudgedExample(
                image=picture,
                prompt=job.prompt,
                name=job.id,
                scores=prediction.scores,
                heatmaps=prediction.heatmaps,
                words=[word.probability for word in prediction.words],
                cut=cut,
            )
        )
    return examples
