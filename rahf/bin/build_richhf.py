"""Joins RichHF-18K's label files with Pick-a-Pic v1 into a TFDS dataset.

    python -m rahf.bin.build_richhf --labels=DIR --pickapic=DIR --output=DIR

The same command resumes an interrupted build. On a cluster, --runner=NAME runs the join
as an Apache Beam pipeline (pip install "rahf[beam]"). Read the result with
tfds.load("rich_hf_18k", data_dir=DIR), or train on it with
--config.input.richhf.data_dir=DIR.
"""

import argparse
import os
import sys
from collections.abc import Sequence

from rahf.datasets.richhf.build_paths import BuildPaths
from rahf.datasets.richhf.joining import POLICIES


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m rahf.bin.build_richhf",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="policies: " + ". ".join(f"{k}: {v}" for k, v in POLICIES.items()),
    )
    add = parser.add_argument
    add("--labels", required=True, help="folder of {train,dev,test}.tfrecord")
    add("--pickapic", required=True, help="folder of Pick-a-Pic's Parquet files")
    add("--output", required=True, help="data directory to write to")
    add("--policy", choices=POLICIES, default="fail", help="see below (%(default)s)")
    add("--partial", action="store_true", help="accept other counts than published")
    add(
        "--runner",
        nargs="?",
        const="DirectRunner",
        help="join with Apache Beam on this runner (%(const)s)",
    )
    add("--beam_options", default="", help='for Beam, such as "--project=P --region=R"')
    args = parser.parse_args(argv)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    options = {"policy": args.policy, "partial": args.partial}
    if args.runner:
        from rahf.datasets.richhf import beam as engine

        options |= {"runner": args.runner, "options": args.beam_options}
    else:
        from rahf.datasets.richhf import build as engine
    try:
        paths = BuildPaths.from_arguments(
            args.labels, args.pickapic, args.output, partial=args.partial
        )
        report = engine.build(paths, **options)
    except ValueError as error:
        sys.exit(f"error: {error}")
    print(f"{paths.output.dataset}: {report.summary()}\n{paths.report}")


if __name__ == "__main__":
    main()
