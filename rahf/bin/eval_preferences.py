"""Measures how often scores agree with people's choices between two images.

    python -m rahf.bin.eval_preferences --checkpoint=W --pairs=pickapic/data \\
        --split=test_unique --tune_split=validation_unique
    python -m rahf.bin.eval_preferences --scores=predictions.jsonl --pairs=pairs.parquet

Pairs are Parquet files in Pick-a-Pic's format. Accuracy is defined as there: 1 for
agreement, 1/2 where either the people or the score called a tie and the other did not.
A score calls a tie if its two values differ by no more than a threshold, chosen for
each score on --tune_split. The 95 % interval is a bootstrap over prompts.
"""

from collections.abc import Sequence

from rahf.bin import flags


def main(argv: Sequence[str] | None = None) -> None:
    parser = flags.new_parser("eval_preferences", __doc__)
    who = parser.add_mutually_exclusive_group(required=True)
    who.add_argument("--checkpoint", metavar="W", help="workdir of a training run")
    scores = 'lines of {"id": uid, "scores": {...}}, or what predict or score wrote'
    who.add_argument("--scores", help=scores)
    add, number = parser.add_argument, flags.at_least
    step = flags.a_step
    add("--step", type=step, help="step of the checkpoint, latest or best (latest)")
    add("--pairs", required=True, help="a Parquet file, or a folder of them")
    add("--split", default="", help="prefix of the files to read in a folder (all)")
    add("--tune_split", help="prefix of the files to choose tie thresholds on (none)")
    add(
        "--tie_threshold",
        type=flags.finite(0),
        default=0.0,
        help="threshold of ties without --tune_split (%(default)s)",
    )
    add(
        "--candidates",
        choices=("all", "pickapic"),
        default="all",
        help="thresholds to try; pickapic: its eleven, for logits (%(default)s)",
    )
    add("--examples", type=number(0), default=0, help="pairs to measure; 0 = all")
    add("--batch_size", type=number(1), default=16, help="images at a time (16)")
    add("--resamples", type=number(1), default=2000, help="bootstrap samples (2000)")
    add(
        "--on_error", choices=("fail", "skip"), default="fail", help="bad images (fail)"
    )
    add("--output", help="folder to write to (W/eval/preferences; none with --scores)")
    args = parser.parse_args(argv)
    with flags.clear_errors():
        from rahf.evaluation.preference_runs import (
            PreferenceRequest,
            compare_preferences,
        )

        print(compare_preferences(PreferenceRequest(**vars(args))))


if __name__ == "__main__":
    main()
