"""Predicts human feedback on images.

    python -m rahf.bin.predict --checkpoint=W --prompt="a red cat" cat.png --output=DIR
    python -m rahf.bin.predict --checkpoint=W --prompt="a red cat" folder --output=DIR
    python -m rahf.bin.predict --checkpoint=W prompts.jsonl --output=DIR

DIR/predictions.jsonl gets one line per image; DIR/heatmaps and DIR/overlays the
pictures. The same command, run again, goes on where it stopped.
"""

import argparse
import os
import sys
from collections.abc import Sequence

from rahf.inference import score_guide


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m rahf.bin.predict",
        description=__doc__,
        epilog=score_guide.explain(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("sources", nargs="+", help="images, folders, JSONL or CSV files")
    add("--checkpoint", required=True, metavar="W", help="workdir of a training run")
    add("--prompt", help="what the images without a prompt of their own should show")
    add("--output", required=True, metavar="DIR", help="folder to write to")
    add("--batch_size", type=int, default=16, help="images at a time (%(default)s)")
    add(
        "--on_error",
        choices=("fail", "skip"),
        default="fail",
        help="stop at an image that cannot be read, or note it (%(default)s)",
    )
    args = parser.parse_args(argv)
    # Only now: `--help` needs no JAX.
    import rahf
    from rahf.inference import jobs, stream, writer

    try:
        jobs = jobs.read_jobs(args.sources, args.prompt)
        predictor = rahf.load(args.checkpoint)
        source = f"{os.path.abspath(args.checkpoint)}, step {predictor.step}"
        with writer.PredictionWriter(args.output, checkpoint=source) as out:
            counts = stream.run(
                predictor, jobs, out, batch_size=args.batch_size, on_error=args.on_error
            )
    except ValueError as error:
        sys.exit(f"error: {error}")
    print(f"{out.path}: {counts.summary()}")
    if counts.failed and not counts.predicted:
        sys.exit(1)


if __name__ == "__main__":
    main()
