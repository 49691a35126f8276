"""Makes a dataset of raters' files: one record an image, for training.

    python -m rahf.bin.consolidate ratings.jsonl --images=DIR --output=DIR

By default as the paper does: scores are averaged, a word is misaligned by majority (a
tie is aligned), each click becomes a disk and the raters' maps are averaged. Train on
it with config.task.name=consolidated_seven or consolidated_multihead and
config.input.consolidated.data_dir=DIR. docs/annotate.md describes the files.
"""

from collections.abc import Sequence

from rahf.bin import rating_flags
from rahf.bin.flags import at_least, clear_errors, finite


def main(argv: Sequence[str] | None = None) -> None:
    parser = rating_flags.make_parser("consolidate", __doc__)
    add = parser.add_argument
    add("--images", required=True, metavar="DIR", help="folder of the images")
    add("--output", required=True, metavar="DIR", help="data directory to write to")
    add("--prompt", help="of images that come without one")
    add("--scores", choices=("mean", "median"), default="mean", help="(%(default)s)")
    add("--weights", choices=("equal", "reliability"), default="equal", help="(equal)")
    share = finite(0, 1)
    add("--radius", type=share, default=1 / 20, help="share of the height (0.05)")
    add("--map_size", type=at_least(1), default=512, help="of the longer side (512)")
    add("--dev_share", type=share, default=0.1, help="of prompts (%(default)s)")
    add("--test_share", type=share, default=0.1, help="of prompts (%(default)s)")
    add("--seed", type=int, default=0, help="of the splits (%(default)s)")
    add("--bad_images", choices=("fail", "skip"), default="fail", help="(%(default)s)")
    args = parser.parse_args(argv)
    from rahf.datasets.ratings import consolidated, consolidation, reliability

    with clear_errors():
        rated = rating_flags.read(args)
        for each in rated:
            each.prompt = args.prompt if each.prompt is None else each.prompt
        weights = None
        if args.weights == "reliability":
            weights = reliability.rater_weights(each.ratings for each in rated)
        report = consolidated.write_dataset(
            rated,
            args.images,
            args.output,
            options=consolidation.ConsolidationOptions(
                scores=args.scores, radius=args.radius, weights=weights
            ),
            dev_share=args.dev_share,
            test_share=args.test_share,
            seed=args.seed,
            map_size=args.map_size,
            skip_bad_images=args.bad_images == "skip",
        )
    print(f"{args.output}: {report.summary()}")


if __name__ == "__main__":
    main()
