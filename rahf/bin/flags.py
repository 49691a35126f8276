"""What the binaries that evaluate share: args, one evaluation, one page.

JAX is imported only once the flags are read, so that `--help` is fast.
"""

import argparse
import contextlib
import dataclasses
import json
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from rahf import images
from rahf.bin.output import check_file, check_folder
from rahf.evaluation.metrics.accumulator import CONVENTIONS
from rahf.targets import Kind, ordered, select


def new_parser(
    prog: str, description: str | None, **options: Any
) -> argparse.ArgumentParser:
    """Returns a parser without flags that shows a description as it is written."""
    return argparse.ArgumentParser(
        prog=f"python -m rahf.bin.{prog}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        **options,
    )


def make_parser(prog: str, description: str | None) -> argparse.ArgumentParser:
    """Returns a parser with the flags of every binary that evaluates."""
    parser = new_parser(prog, description)
    add = parser.add_argument
    add("--checkpoint", required=True, metavar="W", help="workdir of a training run")
    add("--step", type=a_step, help="a step, latest or best (latest)")
    add("--split", default="test", help="split of the task (%(default)s)")
    add(
        "--batch_size",
        type=at_least(1),
        help="examples at a time (config.eval.batch_size)",
    )
    add(
        "--convention",
        choices=CONVENTIONS,
        default="rahf",
        help="richhf gives the numbers of the first author's release (%(default)s)",
    )
    return parser


def at_least(low: int) -> Callable[[str], int]:
    """Returns a type for argparse: whole numbers from `low` on."""

    def number(text: str) -> int:
        value = int(text)
        if value < low:
            raise argparse.ArgumentTypeError(f"{value} is less than {low}")
        return value

    return number


def a_step(text: str) -> str:
    """A type for argparse: a step of a checkpoint, or which."""
    if text not in ("latest", "best") and not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r}: expected a step, latest or best")
    return text


@contextlib.contextmanager
def clear_errors() -> Iterator[None]:
    """Ends the program with the message alone where the input was at fault."""
    try:
        yield
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from error


def run(
    kind: Kind, name: str, description: str | None, argv: Sequence[str] | None
) -> None:
    """Evaluates the targets of one kind, prints the table and writes the files."""
    parser = make_parser(f"eval_{name}", description)
    add = parser.add_argument
    add("--examples", type=at_least(0), default=0, help="records to measure, 0 = all")
    add("--output", help="folder of the files (W/eval/<split>)")
    add(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="of the config's task or input, for data that is elsewhere or another: "
        "input.richhf.data_dir=DIR; may be repeated, and needs --output",
    )
    args = parser.parse_args(argv)
    if args.set and not args.output:
        parser.error("--set needs --output: W/eval is for the run's own data")
    with clear_errors():
        from rahf.evaluation.overrides import set_key

        config, params, step = _restore(args)
        for assignment in args.set:
            set_key(config, assignment)
        folder = _check_output(args, name, args.output)
        results = _evaluator(args, config, args.examples, kind)(params)
        if not any(values["n"] for values in results.metrics.values()):
            raise ValueError(f"nothing to measure: {'; '.join(results.notes())}")
        _write(args, results, step, folder, name)
    print(results.table())
    for note in results.notes():
        print(f"\n{note}")
    if cut := results.facts["truncated"]:
        print(
            f"\n{cut:,} prompts are longer than the model reads "
            f"(config.input.text_length={config.input.text_length}, target_length="
            f"{config.input.target_length}): the words cut off are not measured"
        )
    print(
        f"\n{args.checkpoint}, step {step}, {args.split} split, {args.convention} "
        f"convention; {results.facts['seconds']:.1f} s. ^ higher is better, v lower."
    )


def write_page(args: argparse.Namespace) -> pathlib.Path:
    """Writes the report that the flags of rahf.bin.report ask for."""
    from rahf.evaluation import results as eval_results
    from rahf.reports import run_page

    config, params, step = _restore(args)
    page = args.output or pathlib.Path(args.checkpoint) / "report.html"
    check_file(page)
    evaluator = _evaluator(args, config, args.eval_examples, None)
    results = eval_results.read_results(
        eval_results.results_folder(args.checkpoint, args.split),
        split=args.split,
        step=step,
        convention=args.convention,
        examples=args.eval_examples,
    )
    # Pieces only teach others; training shows their curve.
    shown = [row.name for row in select(evaluator.targets) if row.kind != Kind.PIECES]
    if set(shown) - set(results.metrics):
        folder = _check_output(args, "all")
        results = evaluator(params)
        _write(args, results, step, folder, "all")
    results.metrics = {name: results.metrics[name] for name in shown}
    if args.images:
        examples = _predict(args)
    else:
        examples = evaluator.predict_examples(params, args.examples)
    ceiling = args.ceiling and json.loads(pathlib.Path(args.ceiling).read_text())
    facts = eval_results.describe(args.checkpoint, config, params, step)
    curves, garbled = run_page.read_log(args.checkpoint)
    if garbled:
        facts["Log"] = f"{garbled:,} garbled lines of metrics.jsonl were left out"
        print(facts["Log"])
    return run_page.write_report(
        page,
        title=args.title or f"RAHF on {config.task.name}",
        facts=facts,
        curves=curves,
        results=results,
        ceiling=ceiling,
        examples=examples,
    )


def _restore(args) -> tuple[Any, Any, int]:
    from rahf.checkpoints.checkpoint import restore_for_inference

    return restore_for_inference(args.checkpoint, args.step)


def _evaluator(args, config, examples: int, kind: Kind | None):
    from rahf.evaluation.split import SplitEvaluator

    return SplitEvaluator(
        config,
        split=args.split,
        kind=kind,
        examples=examples,
        batch_size=args.batch_size,
        convention=args.convention,
    )


def _check_output(args, name: str, output: str | None = None) -> pathlib.Path:
    """Returns the folder of results, once something could be written there."""
    from rahf.evaluation.results import results_folder

    default = results_folder(args.checkpoint, args.split)
    files = [f"{name}.json", f"{name}.examples.jsonl"]
    try:
        return check_folder(output or default, files)
    except ValueError as error:
        if output:
            raise
        raise ValueError(f"{error}; name another folder by --output") from error


def _write(args, results, step: int, folder: pathlib.Path, name: str) -> None:
    results.facts |= {"checkpoint": args.checkpoint, "step": step}
    if getattr(args, "set", None):
        results.facts["set"] = args.set
    print("written:", *results.write(folder, name))


def _predict(args):
    """Predicts the user's images, as examples without truth."""
    import rahf
    from rahf.evaluation.examples import JudgedExample
    from rahf.inference.jobs import read_jobs

    named = read_jobs(args.images, args.prompt)
    jobs = named[: args.examples]
    if len(jobs) < len(named):
        print(f"{len(jobs)} of {len(named)} images; --examples={len(named)} shows all")
    pictures = [images.read_image(job.image) for job in jobs]
    predictor = rahf.load(args.checkpoint)
    predictions = predictor.predict(pictures, [job.prompt for job in jobs])
    cut = next((row.cut for row in select(predictor.targets, Kind.WORDS)), 0.5)
    return [
        JudgedExample(
            image=picture,
            prompt=job.prompt,
            name=job.id,
            scores=prediction.scores,
            heatmaps=prediction.heatmaps,
            words=[word.probability for word in prediction.words],
            cut=cut,
        )
        for job, picture, prediction in zip(jobs, pictures, predictions, strict=True)
    ]


def compare_preferences(args: argparse.Namespace) -> str:
    """Does what the flags of rahf.bin.eval_preferences ask for; returns the page."""
    from rahf.datasets.preference_pairs import Preferences
    from rahf.evaluation import preference_scores, text_tables

    folder = args.output or (args.checkpoint and f"{args.checkpoint}/eval/preferences")
    if folder:
        check_folder(folder, _PREFERENCES)
    if args.scores:
        scorer = preference_scores.by_file(args.scores, on_error=args.on_error)
        facts: dict[str, Any] = {"scores": args.scores}
    else:
        import rahf

        predictor = rahf.load(args.checkpoint, args.step)
        scorer = preference_scores.by_model(
            predictor, batch_size=args.batch_size, on_error=args.on_error
        )
        facts = {"checkpoint": args.checkpoint, "step": predictor.step}

    def read(split: str, examples: int) -> Preferences:
        source = Preferences(args.pairs, split, images=not args.scores)
        preference_scores.check_pairs(source, examples=examples)
        return source

    def score(source: Preferences, examples: int) -> preference_scores.Scored:
        return preference_scores.score_pairs(
            source,
            scorer,
            examples=examples,
            at_once=max(1, args.batch_size // 2),
        )

    pairs = read(args.split, args.examples)
    tuning = score(read(args.tune_split, 0), 0) if args.tune_split else None
    scored = score(pairs, args.examples)
    agreements = preference_scores.compare(
        scored,
        tuning,
        threshold=args.tie_threshold,
        candidates=args.candidates,
        resamples=args.resamples,
    )
    facts |= {
        "pairs": args.pairs,
        "split": args.split,
        "tune_split": args.tune_split,
        "unlabelled": scored.unlabelled,
        "skipped": scored.skipped,
        "metrics": {
            name: dataclasses.asdict(a) for name, a in ordered(agreements).items()
        },
    }
    if folder:
        print("written:", *_write_preferences(pathlib.Path(folder), facts, scored.rows))
    return (
        f"{text_tables.render(facts['metrics'])}\n\n"
        f"{scored.unlabelled} rows without a label, {len(scored.skipped)} pairs "
        "skipped. ^ higher is better."
    )


_PREFERENCES = ("preferences.json", "preferences.examples.jsonl")


def _write_preferences(folder: pathlib.Path, facts, rows) -> list[str]:
    paths = [folder / name for name in _PREFERENCES]
    paths[0].write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    with paths[1].open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    return [str(path) for path in paths]


def pool_folds(args: argparse.Namespace, folders: Sequence[str]) -> None:
    """Tests the checkpoint of every fold and prints and writes them as one."""
    from rahf.checkpoints.checkpoint import restore_for_inference
    from rahf.evaluation.cross_validation import pool
    from rahf.evaluation.split import SplitEvaluator

    check_folder(
        args.workdir, ["scores.json", "scores.examples.jsonl"], flag="--workdir"
    )
    found, steps = [], []
    for folder in folders:
        config, params, step = restore_for_inference(folder, args.step)
        evaluator = SplitEvaluator(config, split="test", kind=Kind.SCORE, examples=0)
        found.append(evaluator(params, progress=False))
        steps.append(step)
    results = pool(found)
    results.facts |= {"folds": len(folders), "steps": steps}
    print("written:", *results.write(args.workdir, "scores"))
    print(results.table())
