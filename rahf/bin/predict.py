"""Predicts human feedback on images.

    python -m rahf.bin.predict --checkpoint=W --prompt="a red cat" cat.png --output=DIR
    python -m rahf.bin.predict --checkpoint=W --prompt="a red cat" folder --output=DIR
    python -m rahf.bin.predict --checkpoint=W prompts.jsonl --output=DIR

DIR/predictions.jsonl gets one line per image; DIR/heatmaps and DIR/overlays get the
pictures. The same command resumes an interrupted run. The exit code is 0 if any image
has a prediction, from this run or an earlier one, 1 after an error or if no image could
be read, and 130 after Ctrl-C.
"""

import dataclasses
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
    size = "images at a time (%(default)s)"
    add("--batch_size", type=flags.at_least(1), default=16, help=size)
    errors = "stop at an image that cannot be read, or record it (%(default)s)"
    add("--on_error", choices=("fail", "skip"), default="fail", help=errors)
    maps = "write none, those of the model's size, or of the image's (%(default)s)"
    add("--heatmaps", choices=("none", "native", "full"), default="full", help=maps)
    over = "write heatmaps over their images, for viewing (%(default)s)"
    add("--overlays", choices=("on", "off"), default="on", help=over)
    threads = "threads that read and write pictures (one for each processor)"
    add("--writers", type=flags.at_least(1), metavar="N", help=threads)
    first = "predict the first N images alone"
    add("--limit", type=flags.at_least(1), metavar="N", help=first)
    args = vars(parser.parse_args(argv))
    args["overlays"] = args["overlays"] == "on"
    with flags.clear_errors():
        from rahf.inference import stream  # only now: `--help` needs no JAX

        names = [field.name for field in dataclasses.fields(stream.Options)]
        options = stream.Options(**{name: args.pop(name) for name in names})
        counts, report = stream.predict_folder(**args, options=options)
    # A folder's name may be no UTF-8.
    print(report.encode("utf-8", "backslashreplace").decode())
    if counts.exit_code:
        sys.exit(counts.exit_code)


if __name__ == "__main__":
    main()
