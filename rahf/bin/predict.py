"""Predicts human feedback on images.

    python -m rahf.bin.predict --checkpoint=W --prompt="a red cat" cat.png --output=DIR
    python -m rahf.bin.predict --checkpoint=W --prompt="a red cat" folder --output=DIR
    python -m rahf.bin.predict --checkpoint=W prompts.jsonl --output=DIR

DIR/predictions.jsonl gets one line per image; DIR/heatmaps, DIR/overlays and, with
--sheets=on, DIR/sheets get the pictures. The same command resumes an interrupted run.
The exit code is 0 if any image has a prediction, from this run or an earlier one, 1
after an error or if no image could be read, and 130 after Ctrl-C.
"""

import sys
from collections.abc import Sequence

from rahf.bin import flags, predict_flags
from rahf.inference import score_guide


def main(argv: Sequence[str] | None = None) -> None:
    parser = flags.new_parser("predict", __doc__, epilog=score_guide.explain())
    add = parser.add_argument
    predict_flags.add_sources(parser)
    add("--checkpoint", required=True, metavar="W", help="workdir of a training run")
    add("--step", type=flags.a_step, help="a step, latest or best (latest)")
    add("--output", required=True, metavar="DIR", help="folder to write to")
    predict_flags.add_options(parser)
    args = vars(parser.parse_args(argv))
    with flags.clear_errors():
        from rahf.inference import stream  # only now: `--help` needs no JAX

        args["sources"] = predict_flags.take_sources(args)
        args["options"] = predict_flags.take_options(args)
        counts, report = stream.predict_folder(**args)
    # A folder's name may be no UTF-8.
    print(report.encode("utf-8", "backslashreplace").decode())
    if counts.exit_code:
        sys.exit(counts.exit_code)


if __name__ == "__main__":
    main()
