"""Measures the annotation server under raters who answer as fast as they can.

    python -m rahf.bin.benchmark_annotate
    python -m rahf.bin.benchmark_annotate --images=10000 --drafts=0

A real server, on a database and JPEG files of 1024 pixels in a temporary folder, and
raters in other processes of this machine. "page" is the next image with its picture,
"save" a mark or an answer; "first" and "last" are the first and the last tenth of them.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence

from rahf.bin import flags


def main(argv: Sequence[str] | None = None) -> None:
    parser = flags.new_parser("benchmark_annotate", __doc__)
    add, number = parser.add_argument, flags.at_least(1)
    add("--images", type=number, default=300, help="their number (%(default)s)")
    add("--raters", type=number, default=30, help="at the same time (%(default)s)")
    add("--answers", type=number, default=3, help="for each image (%(default)s)")
    add("--drafts", type=flags.at_least(0), default=2, help="before an answer (2)")
    add("--output", help="a JSON file to write the results to")
    with flags.clear_errors():
        _measure(parser.parse_args(argv))


def _measure(args: argparse.Namespace) -> None:
    import pathlib

    from rahf import durable
    from rahf.annotation import load

    output = durable.check_file(args.output) if args.output else None
    options = load.LoadOptions(
        images=args.images,
        raters=args.raters,
        answers_per_image=args.answers,
        drafts=args.drafts,
    )
    with tempfile.TemporaryDirectory() as folder:
        found = load.measure_load(pathlib.Path(folder), options)
    print(load.table(found))
    if output is not None:
        durable.write_text(output, json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
