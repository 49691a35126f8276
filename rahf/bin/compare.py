"""Compares models on the same images: checkpoints, and predictions on disk.

    python -m rahf.bin.compare runs/a runs/b --split=test --output=DIR
    python -m rahf.bin.compare runs/a predictions theirs.jsonl --labels=runs/a
    python -m rahf.bin.compare --group=large=runs/l0,runs/l1,runs/l2 \\
        --group=small=runs/s0,runs/s1,runs/s2

Prints one table of all metrics: each with its bootstrap interval over images, and the
paired differences to the baseline with theirs, from the same resamples of the images.
The runs of a --group are one model, trained with several seeds: its values are means
over them, and the table has mean ranks. DIR gets comparison.json, .md, .tex and .html;
the page shows the training curves over each other, and the same images side by side,
to be sorted by where two models differ most.

Models that were measured on other images, other labels or another scale of scores are
not compared: an error says what differs.
"""

from collections.abc import Sequence

from rahf.bin import flags


def main(argv: Sequence[str] | None = None) -> None:
    parser = flags.new_parser("compare", __doc__)
    add, number = parser.add_argument, flags.at_least
    text = "workdirs, their checkpoints/<step>, folders or files of predictions"
    add("runs", nargs="*", metavar="W", help=f"{text}; each is a model")
    text = "NAME=W1,W2,...: runs of one model, or a name for one run; repeatable"
    add("--group", action="append", default=[], help=text)
    add("--split", default="test", help="split of the task (%(default)s)")
    flags.add_labels(parser)
    flags.add_measuring(parser)
    add("--examples", type=number(0), default=0, help="records to measure; 0 = all")
    add("--shown", type=number(0), default=16, help="pictures to show (%(default)s)")
    add("--baseline", metavar="NAME", help="model to subtract from the others (first)")
    share = flags.finite(0.01, 0.999)
    add("--level", type=share, default=0.95, help="of intervals (%(default)s)")
    add("--resamples", type=number(10), default=2000, help="(%(default)s)")
    add("--seed", type=int, default=0, help="of the resamples (%(default)s)")
    add("--title", default="Comparison", help="of the page (%(default)s)")
    add("--output", default="comparison", help="folder to write to (%(default)s)")
    args = parser.parse_intermixed_args(argv)
    with flags.clear_errors():
        from rahf.evaluation.compared_runs import ComparedRuns, name_models
        from rahf.reports.comparison_page import ComparisonRequest, write_comparison

        runs = ComparedRuns(
            models=name_models(args.runs, args.group),
            labels=flags.take_labels(args),
            **{name: getattr(args, name) for name in ("split", "examples")},
            **{name: getattr(args, name) for name in ("batch_size", "convention")},
        )
        names = ("shown", "baseline", "level", "resamples", "seed", "title", "output")
        options = {name: getattr(args, name) for name in names}
        print(write_comparison(ComparisonRequest(runs=runs, **options)))


if __name__ == "__main__":
    main()
