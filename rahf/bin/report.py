"""Writes a self-contained HTML page about a run: curves, tables and pictures.

    python -m rahf.bin.report --checkpoint=runs/scenes --split=test --examples=12
    python -m rahf.bin.report --checkpoint=runs/scenes --prompt="a cat" cat.png
    python -m rahf.bin.report --checkpoint=runs/scenes pictures/prompts.jsonl
    python -m rahf.bin.report --predictions=DIR --labels=runs/scenes --split=test

The tables are those that the eval binaries wrote to W/eval/<split> for the same step
and convention; if a target is missing there, all are evaluated now. The pictures are
the first records of the split, or, without ground truth, your own images (files,
folders, JSONL or CSV, as for rahf.bin.predict).
"""

from collections.abc import Sequence

from rahf.bin import flags


def main(argv: Sequence[str] | None = None) -> None:
    parser = flags.make_parser("report", __doc__)
    add = parser.add_argument
    add("images", nargs="*", help="your own images, in place of the split's")
    add("--prompt", help="prompt of the images without one of their own")
    add(
        "--examples",
        type=flags.at_least(0),
        default=12,
        help="pictures to show (%(default)s)",
    )
    add(
        "--eval_examples",
        type=flags.at_least(0),
        default=0,
        help="records to measure; 0 = all",
    )
    add("--ceiling", help="JSON file that rahf.bin.scenes_ceiling --output wrote")
    add("--title", help="page title (the workdir's name)")
    add("--output", help="file to write (report.html in W or DIR)")
    args = parser.parse_args(argv)
    with flags.clear_errors():
        from rahf.reports.checkpoint_page import PageRequest, write_checkpoint_page

        request = PageRequest(
            evaluation=flags.evaluation_request(args, examples=args.eval_examples),
            shown=args.examples,
            pictures=args.images,
            prompt=args.prompt,
            ceiling=args.ceiling,
            title=args.title,
            output=args.output,
        )
        print("written:", write_checkpoint_page(request))


if __name__ == "__main__":
    main()
