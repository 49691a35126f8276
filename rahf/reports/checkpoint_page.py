"""The page of a checkpoint or of predictions: curves, result tables, examples."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

from rahf import images, storage, strict_json
from rahf.checkpoints import metrics_log, provenance, sessions
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
from rahf.reports import run_curves, run_page
from rahf.targets import Kind, select

#: What the page of a run says first; all else that is known is folded away.
_FIRST = (
    "Trained on",
    "Duration",
    "Trained for",
    "Learned from",
    "Model",
    "Hardware",
    "Version",
    "Checkpoint",
)


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
      title: the title of the page; default the name of the workdir, or of the folder of
        predictions.
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
    report = run_page.RunReport(
        title=request.title or storage.absolute(storage.place(home)).name,
        examples=examples,
        own=bool(request.pictures),
        results=results,
        ceiling=ceiling,
    )
    if isinstance(run, RunEvaluation):
        report = _about_run(report, run)
    else:
        report = _about_predictions(report, run, results)
    return run_page.write_report(page, report)


def _about_predictions(
    report: run_page.RunReport, run: PredictionsEvaluation, results: Results
) -> run_page.RunReport:
    """Adds what there is to know about predictions on disk."""
    made_by = run.images.made_by.get("checkpoint")
    facts = {
        "Predictions": run.images.source,
        **({"Checkpoint": str(made_by)} if made_by else {}),
        "Labels": run.labels,
        "Images": f"{results.facts['matched']:,} of {len(run.images):,} labelled",
    }
    return dataclasses.replace(report, facts=facts)


def _about_run(report: run_page.RunReport, run: RunEvaluation) -> run_page.RunReport:
    """Adds what there is to know about a run, and the curves of its training."""
    known = eval_results.describe(run.workdir, run.config, run.params, run.step)
    curves, garbled = run_curves.read_log(run.workdir)
    if garbled:
        known["Log"] = f"{garbled:,} garbled lines of metrics.jsonl were ignored"
        print(known["Log"])
    if points := curves.get(metrics_log.SECONDS):
        took = sessions.describe_seconds(points[-1][1])
        known["Duration"] = f"{took}, with evaluations, to step {points[-1][0]:,}"
    facts = {label: known.pop(label) for label in _FIRST if label in known}
    log, size = run.config.get("log", {}), run.config.input.get("batch_size")
    number = f", mean of {log['every_steps'] * size:,} examples" if log and size else ""
    warning = provenance.warning(run.config)
    return dataclasses.replace(
        report,
        facts=facts,
        details=known,
        notes=[f"{warning[0].upper()}{warning[1:]}."] if warning else [],
        curves=curves,
        split=run.config.get("eval", {}).get("split", ""),
        trained=f"train split{number}",
    )


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
                intervals=prediction.intervals,
                notes=_notes(prediction.distance),
            )
        )
    return examples


def _notes(distance: float | None) -> list[str]:
    """Returns what the distance from the training images means, if it is known."""
    if distance is None:
        return []
    told = (
        f"Farther from the training images than {distance:.0f} % of those, by the "
        "checkpoint's own features."
    )
    return [told]
