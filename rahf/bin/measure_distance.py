"""Lets predict say how far an image is from those that a checkpoint was trained on.

    python -m rahf.bin.measure_distance --checkpoint=W

Reads up to 1,000 different training images with the checkpoint, and writes a summary of
their features to W/image_features_<step>.npz, some hundred kilobytes. rahf.bin.train
does so at its end for the last step; use this command for other steps, for checkpoints
of earlier versions, and after training by several processes.

rahf.bin.predict then gives each image a "distance": the percentage of training images
that are nearer to the rest of them than it is. It measures what the checkpoint knows,
not how good an image is (docs/predict.md).
"""

from collections.abc import Sequence

from rahf.bin import flags


def main(argv: Sequence[str] | None = None) -> None:
    parser = flags.new_parser("measure_distance", __doc__)
    add = parser.add_argument
    add("--checkpoint", required=True, metavar="W", help="workdir of a training run")
    add("--step", type=flags.a_step, help="a step, latest or best (latest)")
    images = "training images to read, at most (%(default)s)"
    add("--images", type=flags.at_least(20), default=1000, metavar="N", help=images)
    args = parser.parse_args(argv)
    with flags.clear_errors():
        from rahf.inference import training_images  # only now: --help needs no JAX

        print(training_images.summarise(args.checkpoint, args.step, images=args.images))


if __name__ == "__main__":
    main()
