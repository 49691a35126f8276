"""Mends generated images where a model finds them broken.

    python -m rahf.bin.mend predictions --checkpoint=W --generator=runs/muse --output=mended

Each image's heatmap becomes a mask, which the generator repaints several times; the try
with the highest score is kept, if it is better, and all of it is repeated. An image in
which nothing is marked, or that no try improves, comes back as it was, and no pixel
outside the masks changes. DIR gets the images and metadata.jsonl, with what was done to
each, so that it is what rahf.bin.predict takes: judge with another model than W. DIR is
complete or does not exist; interrupted, the same command goes on.
"""

from collections.abc import Sequence

from rahf.bin import flags, generator_flags


def main(argv: Sequence[str] | None = None) -> None:
    parser = flags.new_parser("mend", __doc__)
    add, length = parser.add_argument, flags.finite(0)
    add("predictions", nargs="+", help="what predict wrote, or a manifest of select")
    add("--checkpoint", required=True, metavar="W", help="workdir of the model")
    add("--generator", required=True, metavar="G", help=generator_flags.HELP)
    add("--heatmap", action="append", metavar="NAME", help="repeatable, for a union")
    add("--by", default="plausibility", help="score that must rise (%(default)s)")
    add("--margin", type=length, default=0.0, help="by more than this (0)")
    add("--tries", type=flags.at_least(1), default=4, help="a round (4)")
    add("--rounds", type=flags.at_least(1), default=3, help="(3)")
    add("--threshold", type=flags.finite(0, 1), default=0.3, help="of heatmaps (0.3)")
    add("--dilate", type=length, default=0.5, help="grow by radii (0.5)")
    add("--feather", type=length, default=0.5, help="soft edge, in radii (0.5)")
    add("--chosen", action="store_true", help="only the chosen ones of a manifest")
    add("--seed", type=flags.at_least(0), default=0, help="of the first image (0)")
    add("--output", required=True, metavar="DIR", help="folder to write")
    args = generator_flags.add(parser).parse_args(argv)
    with flags.clear_errors():
        import rahf
        from rahf.applications.masks import MaskOptions
        from rahf.applications.mended_folder import MendRequest, write_mended
        from rahf.applications.mending import MendOptions
        from rahf.checkpoints.identity import digest_of

        pick = lambda *names: {name: getattr(args, name) for name in names}
        mask = MaskOptions(**pick("threshold", "dilate", "feather"))
        heatmaps = tuple(dict.fromkeys(args.heatmap or ["implausibility"]))
        how = pick("by", "margin", "tries", "rounds")
        options = MendOptions(mask=mask, heatmaps=heatmaps, **how)
        generator = generator_flags.load(args)
        model = rahf.load(args.checkpoint)
        made_by = {"checkpoint": digest_of(args.checkpoint, model.step, model.params)}
        given = pick("predictions", "output", "seed", "chosen")
        given["made_by"] = made_by | generator_flags.describe(generator)
        at_once = max(1, generator.batch_size // args.tries)
        request = MendRequest(options=options, at_once=at_once, **given)
        print(write_mended(request, model.predict, generator))


if __name__ == "__main__":
    main()
