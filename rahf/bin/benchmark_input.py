"""Measures how fast examples are made from JPEG files, and how fast they must be.

    python -m rahf.bin.benchmark_input --examples=320
    python -m rahf.bin.benchmark_input --needed

Rates are examples a second of one core's time. Where PyTorch is installed, its
DataLoader decodes and resizes the same files in the same run. `--needed` counts the
operations of a step of configs/rahf_base.py and says how many examples a second, and
so how many cores (at the lowest rate of `score_augmented`), keep hosts busy that
reach `--utilisation` of their peak.
"""

import argparse
import json
from collections.abc import Sequence

from rahf.benchmarks import input_pipeline
from rahf.bin import flags, shipped


def main(argv: Sequence[str] | None = None) -> None:
    configs = f"Shipped configs:\n{shipped.listing()}"
    parser = flags.new_parser("benchmark_input", __doc__, epilog=configs)
    add, number = parser.add_argument, flags.at_least
    add("--examples", type=number(1), default=160, help="of each measurement (160)")
    add("--image_size", type=number(1), default=384, help="of examples (%(default)s)")
    sizes = lambda text: [number(1)(part) for part in text.split(",")]
    add("--sizes", type=sizes, default="512,768", help="of the JPEG files (512,768)")
    add("--needed", action="store_true", help="say what the base model needs")
    add(
        "--config",
        default="rahf_base",
        help="of --needed, a name or path (%(default)s)",
    )
    share = flags.finite(0.001, 1)
    add("--utilisation", type=share, default=0.4, help="of --needed (%(default)s)")
    args = parser.parse_args(argv)
    try:
        _print(args)
    except ValueError as error:
        parser.error(str(error))


def _print(args: argparse.Namespace) -> None:
    config = shipped.load(args.config) if args.needed else None
    slowest = float("inf")
    for size in args.sizes:
        found = input_pipeline.compare(size, args.image_size, args.examples)
        slowest = min(slowest, found["score_augmented"])
        print(json.dumps(found), flush=True)
    if config is not None:
        from rahf.benchmarks import flops  # JAX takes a while

        for line in flops.needed(config, args.utilisation, slowest):
            print(json.dumps(line))


if __name__ == "__main__":
    main()
