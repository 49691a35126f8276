"""The page of a checkpoint: training curves, result tables, predicted examples."""

import dataclasses
import pathlib
from collections.abc import Sequence

from rahf import images, storage, strict_json
from rahf.evaluation import results as eval_results
from rahf.evaluation.evaluate import Results
from rahf.evaluation.examples import JudgedExample
from rahf.evaluation.runs import EvaluationRequest, RunEvaluation
from rahf.inference.jobs import read_jobs
from rahf.inference.predictor import load
from rahf.reports import run_page
from rahf.targets import Kind, select


@dataclasses.dataclass(frozen=True, kw_only=True)
class PageRequest:
    """What the page shows.

    Attributes:
      evaluation: the checkpoint and the split.
      shown: how many pictures to show.
      pictures: the user's own images (files, folders, tables), instead of the
        split's.
      prompt: the prompt of images that have none.
      ceiling: path of the JSON file that rahf.bin.scenes_ceiling writes.
      title: the title of the page; default names the task.
      output: path of the page; default W/report.html.
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
    run = RunEvaluation(request.evaluation)
    workdir = run.workdir
    page = storage.check_file(request.output or storage.place(workdir) / "report.html")
    ceiling = _read_ceiling(request.ceiling) if request.ceiling else None
    results = _results(run)
    if request.pictures:
        examples = _predict(request, run)
    else:
        examples = run.evaluator.predict_examples(run.params, request.shown)
    facts = eval_results.describe(workdir, run.config, run.params, run.step)
    curves, garbled = run_page.read_log(workdir)
    if garbled:
        facts["Log"] = f"{garbled:,} garbled lines of metrics.jsonl were ignored"
        print(facts["Log"])
    return run_page.write_report(
        page,
        title=request.title or f"RAHF on {run.config.task.name}",
        facts=facts,
        curves=curves,
        results=results,
        ceiling=ceiling,
        examples=examples,
    )


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


def _results(run: RunEvaluation) -> Results:
    """Returns the results in the workdir if they are complete, else measures now."""
    request = run.request
    found = eval_results.read_results(
        eval_results.results_folder(run.workdir, request.split),
        split=request.split,
        step=run.step,
        convention=request.convention,
        examples=request.examples,
    )
    # Word presence only helps the other targets; the training curves show it.
    rows = select(run.evaluator.targets)
    shown = [row.name for row in rows if row.kind != Kind.WORD_PRESENCE]
    if set(shown) - set(found.metrics):
        found, paths = run.measure("all")
        print("written:", *paths)
    found.metrics = {name: found.metrics[name] for name in shown}
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
