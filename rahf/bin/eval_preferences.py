"""Measures how often scores agree with what people chose between two images.

    python -m rahf.bin.eval_preferences --checkpoint=W --pairs=pickapic/data \\
        --split=test_unique --tune_split=validation_unique
    python -m rahf.bin.eval_preferences --scores=predictions.jsonl --pairs=pairs.parquet

Pairs are Parquet files in Pick-a-Pic's form. Accuracy is counted as there: 1 for
what people said, 1/2 where one of the two called a tie and the other chose. A score
calls a tie where its values differ by no more than a threshold, chosen for each
score on --tune_split. The interval, 95 %, is a bootstrap over prompts.
"""

from collections.abc import Sequence

from rahf.bin import flags


def main(argv: Sequence[str] | None = None) -> None:
    parser = flags.new_parser("eval_preferences", __doc__)
    who = parser.add_mutually_exclusive_group(required=True)
    who.add_argument("--checkpoint", metavar="W", help="workdir of a training run")
    who.add_argument("--scores", help='JSON lines of {"id": uid, "scores": {...}}')
    add, number = parser.add_argument, flags.at_least
    step = flags.a_step
    add("--step", type=step, help="of the checkpoint: a step, latest or best (latest)")
    add("--pairs", required=True, help="a Parquet file, or a folder of them")
    add("--split", default="", help="in a folder, the files that begin so (all)")
    add("--tune_split", help="files whose pairs choose the threshold of ties (none)")
    zero_up = flags.finite(0)
    add("--tie_threshold", type=zero_up, default=0.0, help="without it (%(default)s)")
    add(
        "--candidates",
        choices=("all", "pickapic"),
        default="all",
        help="thresholds to try; pickapic: its eleven, for logits (%(default)s)",
    )
    add("--examples", type=number(0), default=0, help="pairs to measure, 0 = all")
    add("--batch_size", type=number(1), default=16, help="images at a time (16)")
    add("--resamples", type=number(1), default=2000, help="of the bootstrap (2000)")
    add("--on_error", choices=("fail", "skip"), default="fail", help="(%(default)s)")
    add("--output", help="folder of the files (W/eval/preferences; not written)")
    args = parser.parse_args(argv)
    with flags.clear_errors():
        from rahf.evaluation.preference_runs import (
            PreferenceRequest,
            compare_preferences,
        )

        print(compare_preferences(PreferenceRequest(**vars(args))))


if __name__ == "__main__":
    main()
