"""Compares images before and after, side by side, by the scores of a judge.

    python -m rahf.bin.predict --checkpoint=JUDGE base --output=judged_base
    python -m rahf.bin.predict --checkpoint=JUDGE tuned --output=judged_tuned
    python -m rahf.bin.side_by_side judged_base judged_tuned --by=plausibility \\
        --by=alignment --output=side_by_side.json

Which share of the pairs is significantly better, slightly better, the same or worse, as
the paper reports it, and better minus worse, each with a bootstrap interval over prompts.
A pair is two images with the same id, such as 000012-3, and the same prompt. Several AFTERs
are each compared with BEFORE: the curve over steps, seeds, or a control.

The judge must not have chosen or mended the images itself; where their folders say so, it
is refused.
"""

from collections.abc import Sequence

from rahf.bin import flags


def main(argv: Sequence[str] | None = None) -> None:
    parser = flags.new_parser("side_by_side", __doc__)
    add, number = parser.add_argument, flags.at_least
    add("before", metavar="BEFORE", help="predictions of the images before")
    add("after", metavar="AFTER", nargs="+", help="of those after; one or several")
    add("--by", action="append", default=[], metavar="SCORE", help="repeatable (all)")
    text = "differences of a score that are slight and significant (0.12,0.29)"
    add("--margins", metavar="A,B", help=text)
    text = "do not refuse a judge that had a hand in the images"
    add("--same_judge", action="store_true", help=text)
    text = "images without a partner: stop, or leave them out and count them (fail)"
    add("--on_error", choices=("fail", "skip"), default="fail", help=text)
    share = flags.finite(0.01, 0.999)
    add("--level", type=share, default=0.95, help="of intervals (%(default)s)")
    add("--resamples", type=number(10), default=2000, help="(%(default)s)")
    add("--seed", type=number(0), default=0, help="of the resamples (%(default)s)")
    add("--output", metavar="FILE", help="JSON file to write the numbers to")
    args = vars(parser.parse_intermixed_args(argv))
    with flags.clear_errors():
        import json

        from rahf import durable
        from rahf.evaluation.judged_sides import SideBySideRequest, judge_sides
        from rahf.evaluation.side_by_side import MARGINS, parse_margins

        margins, output = args.pop("margins"), args.pop("output")
        if output:  # before the work
            durable.check_file(output)
        args["margins"] = parse_margins(margins) if margins else MARGINS
        found = judge_sides(SideBySideRequest(**args))
        if output:
            durable.write_text(output, json.dumps(found.as_json(), indent=1) + "\n")
        print(found)


if __name__ == "__main__":
    main()
