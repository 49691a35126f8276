"""Makes a training dataset from raters' files, with one record per image.

    python -m rahf.bin.consolidate ratings.jsonl --images=DIR --output=DIR

The defaults are the paper's: scores are averaged, a word is misaligned by majority (a
tie is aligned), each click becomes a disk and the raters' maps are averaged. Train on
it with --config.task.name=consolidated_seven or consolidated_multihead and
--config.input.consolidated.data_dir=DIR. docs/annotate.md describes the files.
"""

from collections.abc import Sequence

from rahf.bin import rating_flags
from rahf.bin.flags import at_least, clear_errors, finite

_WEIGHTS = ("equal", "reliability")


def main(argv: Sequence[str] | None = None) -> None:
    parser = rating_flags.make_parser("consolidate", __doc__)
    add = parser.add_argument
    add("--images", required=True, metavar="DIR", help="folder of the images")
    add("--output", required=True, metavar="DIR", help="data directory to write to")
    add("--prompt", help="prompt of images without one of their own")
    add("--scores", choices=("mean", "median"), default="mean", help="average (mean)")
    add("--weights", choices=_WEIGHTS, default="equal", help="rater weights (equal)")
    share = finite(0, 1)
    add("--radius", type=share, default=1 / 20, help="disk radius / height (0.05)")
    add("--map_size", type=at_least(1), default=512, help="longer side of maps (512)")
    add("--dev_share", type=share, default=0.1, help="share of prompts in dev (0.1)")
    add("--test_share", type=share, default=0.1, help="share of prompts in test (0.1)")
    add("--seed", type=int, default=0, help="seed of the splits (%(default)s)")
    add("--bad_images", choices=("fail", "skip"), default="fail", help="policy (fail)")
    args = parser.parse_args(argv)
    from rahf.datasets.ratings import consolidated, consolidation, reliability

    with clear_errors():
        rated = rating_flags.read(args)
        for each in rated:
            each.prompt = args.prompt if each.prompt is None else each.prompt
        weights = None
        if args.weights == "reliability":
            weights = reliability.rater_weights(each.ratings for each in rated)
        options = consolidated.DatasetOptions(
            consolidation=consolidation.ConsolidationOptions(
                scores=args.scores, radius=args.radius, weights=weights
            ),
            dev_share=args.dev_share,
            test_share=args.test_share,
            seed=args.seed,
            map_size=args.map_size,
            skip_bad_images=args.bad_images == "skip",
        )
        report = consolidated.write_dataset(rated, args.images, args.output, options)
    print(f"{args.output}: {report.summary()}")


if __name__ == "__main__":
    main()
