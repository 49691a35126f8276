"""Measures how fast examples are made from JPEG files, and how fast they need to be.

    python -m rahf.bin.benchmark_input --examples=320
    python -m rahf.bin.benchmark_input --needed

Rates are examples per second of one core's time. If PyTorch is installed, its
DataLoader decodes and resizes the same files for comparison. `--needed` counts the
operations of a train step (of configs/rahf_base.py, unless --config names another) and
prints how many examples per second, and so how many cores (at the lowest rate of
`score_augmented`), keep hosts busy that reach `--utilisation` of their peak.
"""

import argparse
import json
from collections.abc import Sequence

from rahf.bin import flags, shipped


def main(argv: Sequence[str] | None = None) -> None:
    configs = f"Shipped configs:\n{shipped.listing()}"
    parser = flags.new_parser("benchmark_input", __doc__, epilog=configs)
    add = parser.add_argument
    number = flags.at_least(1)
    add("--examples", type=number, default=160, help="examples to time (%(default)s)")
    add("--image_size", type=number, default=384, help="side of examples (%(default)s)")
    add("--sizes", type=sizes, default="512,768", help="sides of JPEGs (%(default)s)")
    add("--needed", action="store_true", help="print what training needs")
    add("--config", default="rahf_base", help="name or path for --needed (rahf_base)")
    share = flags.finite(0.001, 1)
    add("--utilisation", type=share, default=0.4, help="share of peak (%(default)s)")
    args = parser.parse_args(argv)
    try:
        _print(args)
    except ValueError as error:
        parser.error(str(error))


def sizes(text: str) -> list[int]:
    return [flags.at_least(1)(part) for part in text.split(",")]


def _print(args: argparse.Namespace) -> None:
    from rahf.benchmarks import flops, input_pipeline  # import JAX, which is slow

    config = shipped.load(args.config) if args.needed else None
    slowest = float("inf")
    for size in args.sizes:
        found = input_pipeline.compare(size, args.image_size, args.examples)
        slowest = min(slowest, found["score_augmented"])
        print(json.dumps(found), flush=True)
    if config is not None:
        for line in flops.needed(config, args.utilisation, slowest):
            print(json.dumps(line))


if __name__ == "__main__":
    main()
