"""Calibrates prediction intervals of scores, by the errors on the dev split.

    python -m rahf.bin.calibrate --checkpoint=runs/scenes --check=test

Writes W/calibration.json. From then on, `rahf.bin.predict`, `rahf.bin.score` and
`rahf.load` give each score an interval, such as plausibility 0.71 (0.55 to 0.84). It
holds the raters' mean score of --level of the images, if they are like those of the
split (split-conformal prediction). --check measures the share held on another split; the
report then plots it. A calibration is of one checkpoint: that of an earlier step, or of
parameters that have changed, is not used, with a warning.
"""

from collections.abc import Sequence

from rahf.bin import flags


def main(argv: Sequence[str] | None = None) -> None:
    parser = flags.new_parser("calibrate", __doc__)
    add = parser.add_argument
    add("--checkpoint", required=True, metavar="W", help="workdir of a training run")
    add("--step", type=flags.a_step, help="a step, latest or best (latest)")
    add("--split", default="dev", help="split of the errors (%(default)s)")
    share = flags.finite(0.01, 0.999)
    add("--level", type=share, default=0.8, help="share to hold (%(default)s)")
    add("--check", default="", metavar="SPLIT", help="split to check them on (none)")
    text = "records of a split; 0 = all"
    add("--examples", type=flags.at_least(0), default=0, help=text)
    add("--batch_size", type=flags.at_least(1), help="(config.eval.batch_size)")
    args = parser.parse_args(argv)
    with flags.clear_errors():
        from rahf.evaluation import calibration
        from rahf.evaluation.runs import EvaluationRequest

        names = ("checkpoint", "step", "split", "examples", "batch_size")
        evaluation = EvaluationRequest(**{n: getattr(args, n) for n in names})
        print(
            calibration.calibrate(
                calibration.CalibrationRequest(
                    evaluation=evaluation, level=args.level, check=args.check
                )
            )
        )


if __name__ == "__main__":
    main()
