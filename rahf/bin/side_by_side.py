"""Compares images before and after, side by side, by the scores of a judge.

    python -m rahf.bin.predict --checkpoint=JUDGE base --output=judged_base
    python -m rahf.bin.predict --checkpoint=JUDGE tuned --output=judged_tuned
    python -m rahf.bin.side_by_side judged_base judged_tuned --by=plausibility \\
        --by=alignment --output=side_by_side.json

Prints which share of the pairs is significantly better, slightly better, the same or
worse, as the paper does, with bootstrap intervals over prompts. A pair is two images with
the same id, such as 000012-3, and the same prompt. Several AFTERs are each compared with
BEFORE. Below stands what no score sees, such as diversity; a * marks what has moved.
A judge that has chosen or mended the images itself is refused, where that is known.
"""

from collections.abc import Sequence

from rahf.bin import flags


def main(argv: Sequence[str] | None = None) -> None:
    parser = flags.new_parser("side_by_side", __doc__)
    add, number = parser.add_argument, flags.at_least
    add("before", metavar="BEFORE", help="predictions of the images before")
    add("after", metavar="AFTER", nargs="+", help="of those after; one or several")
    add("--by", action="append", default=[], metavar="SCORE", help="repeatable (all)")
    text = "differences that are slight and significant (%(default)s)"
    add("--margins", metavar="A,B", default="0.12,0.29", help=text)
    add("--same_judge", action="store_true", help="do not refuse such a judge")
    text = "images without a partner: stop, or leave them out and count them (fail)"
    add("--on_error", choices=("fail", "skip"), default="fail", help=text)
    seen = parser.add_mutually_exclusive_group().add_argument
    seen("--no_statistics", action="store_true", help="do not read the images")
    text = "workdir of a generator, for the entropy of its tokens"
    seen("--generator", metavar="G", help=text)
    share = flags.finite(0.01, 0.999)
    add("--level", type=share, default=0.95, help="of intervals (%(default)s)")
    add("--resamples", type=number(10), default=2000, help="(%(default)s)")
    add("--seed", type=number(0), default=0, help="of the resamples (%(default)s)")
    add("--output", metavar="FILE", help="JSON file to write the numbers to")
    args = vars(parser.parse_intermixed_args(argv))
    with flags.clear_errors():
        from rahf.evaluation.judged_sides import SideBySideRequest, write_sides
        from rahf.evaluation.side_by_side import parse_margins

        args["statistics"] = not args.pop("no_statistics")
        args["margins"] = parse_margins(args["margins"])
        if generator := args.pop("generator"):
            from rahf.generators.muse.generator import MuseGenerator

            args["tokenize"] = MuseGenerator.load(generator).tokens
        output = args.pop("output")
        print(write_sides(SideBySideRequest(**args), output))


if __name__ == "__main__":
    main()
