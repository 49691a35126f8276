"""Turns predicted heatmaps into inpainting masks, white where to repaint.

    python -m rahf.bin.masks predictions --output=masks
    python -m rahf.bin.masks predictions --heatmap=implausibility \\
        --heatmap=misalignment --threshold=0.4 --dilate=1 --feather=0.5 --output=masks

DIR gets masks/<id>.png, 8-bit grey in the image's own size, and masks.jsonl with the
share and the boxes of each mask. Lengths are in radii of the raters' disks, 1/20 of the
height. DIR is complete or does not exist; after an interruption, the same command
continues.
"""

from collections.abc import Sequence

from rahf.bin import flags


def main(argv: Sequence[str] | None = None) -> None:
    parser = flags.new_parser("masks", __doc__)
    add, length = parser.add_argument, flags.finite(0)
    add("predictions", nargs="+", help="what predict or score wrote, or a manifest")
    heatmap = "heatmap to use; repeatable, for their union (implausibility)"
    add("--heatmap", action="append", metavar="NAME", help=heatmap)
    threshold = "lowest value inside, above 0 (%(default)s)"
    add("--threshold", type=flags.finite(0, 1), default=0.3, help=threshold)
    specks = "drop regions of less area, in areas of a rater's disk (%(default)s)"
    add("--specks", type=length, default=0.1, help=specks)
    add("--dilate", type=length, default=0.5, help="grow by radii (%(default)s)")
    add("--keep_holes", action="store_true", help="do not fill what is enclosed")
    feather = "width of the soft edge outside, in radii (%(default)s)"
    add("--feather", type=length, default=0.0, help=feather)
    add("--skip_empty", action="store_true", help="leave out masks of nothing")
    add("--chosen", action="store_true", help="only the chosen ones of a manifest")
    errors = "images whose heatmap is gone: stop or leave out (fail)"
    add("--on_error", choices=("fail", "skip"), default="fail", help=errors)
    add("--output", required=True, metavar="DIR", help="folder to write")
    args = vars(parser.parse_args(argv))
    with flags.clear_errors():
        from rahf.applications.masking import MasksRequest, write_masks
        from rahf.applications.masks import MaskOptions

        names = ("threshold", "specks", "dilate", "feather")
        options = {name: args.pop(name) for name in names}
        options["fill_holes"] = not args.pop("keep_holes")
        heatmaps = tuple(dict.fromkeys(args.pop("heatmap") or ["implausibility"]))
        request = MasksRequest(
            heatmaps=heatmaps, options=MaskOptions(**options), **args
        )
        print(write_masks(request))


if __name__ == "__main__":
    main()
