"""Chooses images by their predicted scores, and writes a training set of them.

    python -m rahf.bin.select predictions --by=plausibility --threshold=0.7 \\
        --output=chosen
    python -m rahf.bin.select predictions --by=plausibility --threshold=auto:0.3 \\
        --control=random --output=control
    python -m rahf.bin.select predictions --by="0.7*plausibility+0.3*overall" \\
        --require=alignment=0.5 --format=pairs --margin=0.1 --output=pairs

The best image of each prompt is kept if it passes the threshold; of equal ones, the
first. The yield at each threshold is printed. The control is as many images of the same
prompts, drawn at random. DIR holds images/, shards/ or pairs/ for a trainer, and
manifest.jsonl with a reason for each image. It is complete or does not exist; the same
command again writes nothing.
"""

from collections.abc import Sequence

from rahf.bin import flags


def main(argv: Sequence[str] | None = None) -> None:
    parser = flags.new_parser("select", __doc__)
    add, count = parser.add_argument, flags.at_least(0)
    add("predictions", nargs="+", help="what predict or score wrote; files, folders")
    add("--by", required=True, help="score, or a sum: 0.7*plausibility+0.3*overall")
    add("--threshold", help="lowest value to keep, or auto:SHARE of prompts (any)")
    require = "score that must be at least so high; repeatable"
    add("--require", action="append", default=[], metavar="NAME=T", help=require)
    add("--keep", type=count, default=1, help="images per prompt (1); 0 = all")
    share = "most images to keep, as a share of all, the best first (%(default)s)"
    add("--share", type=flags.finite(0, 1), default=1.0, help=share)
    formats = ("images", "shards", "pairs")
    add("--format", choices=formats, default=formats[0], help="(%(default)s)")
    margin = "least difference between the best and the worst of a pair (%(default)s)"
    add("--margin", type=flags.finite(0), default=0.0, help=margin)
    add("--control", choices=("random",), help="as many, drawn at random, instead")
    add("--seed", type=count, default=0, help="of the draw and sides (%(default)s)")
    weigh = "heatmap whose places shall count less in a loss, as pictures in weights/"
    add("--weigh", default="", metavar="NAME[=FLOOR]", help=weigh)
    add("--link", action="store_true", help="symbolic links instead of copies")
    errors = "images gone or changed, lines without a score: stop or leave out (fail)"
    add("--on_error", choices=("fail", "skip"), default="fail", help=errors)
    add("--output", required=True, metavar="DIR", help="folder to write")
    args = vars(parser.parse_args(argv))
    with flags.clear_errors():
        from rahf.applications import selecting, selection
        from rahf.reports import yield_chart

        rule = selection.parse_rule(
            **{name: args.pop(name) for name in selection.RULE_FLAGS}
        )
        args["control"] = args["control"] == "random"
        request = selecting.SelectionRequest(rule=rule, **args)
        print(selecting.select(request, yield_chart.write_chart))


if __name__ == "__main__":
    main()
