"""Predicts human feedback on images.

    python -m rahf.bin.predict --checkpoint=W --prompt="a red cat" cat.png --output=DIR
    python -m rahf.bin.predict --checkpoint=W --prompt="a red cat" folder --output=DIR
    python -m rahf.bin.predict --checkpoint=W prompts.jsonl --output=DIR

DIR/predictions.jsonl gets one line per image; DIR/heatmaps and DIR/overlays get the
pictures. The same command resumes an interrupted run. The exit code is 0 if any image
has a prediction, from this run or an earlier one, 1 after an error or if no image could
be read, and 130 after Ctrl-C.
"""

import sys
from collections.abc import Sequence

from rahf.bin import flags
from rahf.inference import score_guide


def main(argv: Sequence[str] | None = None) -> None:
    parser = flags.new_parser("predict", __doc__, epilog=score_guide.explain())
    add = parser.add_argument
    add("sources", nargs="+", help="images, folders, JSONL, JSON, CSV or TSV files")
    add("--checkpoint", required=True, metavar="W", help="workdir of a training run")
    add("--step", type=flags.a_step, help="a step, latest or best (latest)")
    add("--prompt", help="prompt of the images without one of their own")
    add("--output", required=True, metavar="DIR", help="folder to write to")
    add(
        "--batch_size",
        type=flags.at_least(1),
        default=16,
        help="images at a time (%(default)s)",
    )
    add(
        "--on_error",
        choices=("fail", "skip"),
        default="fail",
        help="stop at an image that cannot be read, or record it (%(default)s)",
    )
    args = vars(parser.parse_args(argv))
    with flags.clear_errors():
        from rahf.inference import stream  # only now: `--help` needs no JAX

        counts, report = stream.predict_folder(**args)
    # A folder's name may be no UTF-8.
    print(report.encode("utf-8", "backslashreplace").decode())
    if counts.exit_code:
        sys.exit(counts.exit_code)


if __name__ == "__main__":
    main()
