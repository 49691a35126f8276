"""Scores shards of images: one Parquet file for each shard, resumable.

    python -m rahf.bin.score --checkpoint=W "shards/{00000..00099}.tar" --output=DIR

Shards are tar files as img2dataset writes them, Parquet or JSONL, local or at a URL that
fsspec reads. The same command continues where it was killed. In a Slurm array, give each
task a part: --shard=$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT
On a cluster of Apache Beam: --runner=FlinkRunner, with Beam's flags in --beam_options.
"""

import argparse
from collections.abc import Sequence

from rahf.bin import flags


def _part(text: str) -> tuple[int, int]:
    first, _, of = text.partition("/")
    if not (first.isdecimal() and of.isdecimal() and int(first) < int(of)):
        raise argparse.ArgumentTypeError(f"{text!r}: expected i/n, such as 0/8 to 7/8")
    return int(first), int(of)


def main(argv: Sequence[str] | None = None) -> None:
    parser = flags.new_parser("score", __doc__)
    add = parser.add_argument
    add("shards", nargs="+", help="tar, Parquet or JSONL files; tars also by pattern")
    add("--checkpoint", required=True, metavar="W", help="workdir of a training run")
    add("--step", type=flags.a_step, help="a step, latest or best (latest)")
    add("--output", required=True, metavar="DIR", help="folder to write to")
    size = "images at a time (%(default)s)"
    add("--batch_size", type=flags.at_least(1), default=16, help=size)
    maps = "write none, or uint8 of the model's size (%(default)s)"
    add("--heatmaps", choices=("none", "native"), default="none", help=maps)
    part = "every n-th shard, from the i-th on, counted from 0 (0/1)"
    add("--shard", type=_part, default=(0, 1), metavar="i/n", help=part)
    processes = "processes that decode images (one for each processor); 0 = none"
    add("--decoders", type=flags.at_least(0), metavar="N", help=processes)
    add("--runner", metavar="NAME", help="score on this runner of Apache Beam")
    add("--beam_options", default="", help='for Beam, such as "--project=P --region=R"')
    args = vars(parser.parse_args(argv))
    with flags.clear_errors():
        from rahf.inference import scoring, shards

        runner, options = args.pop("runner"), args.pop("beam_options")
        if options and not runner:
            raise ValueError(f"--beam_options={options!r} needs --runner")
        if runner:
            from rahf.inference import beam_scoring
        args["part"] = args.pop("shard")
        args["shards"] = shards.list_shards(args["shards"])
        request = scoring.ScoreRequest(**args)
        if runner:
            print(beam_scoring.score(request, runner, options))
        else:
            print(scoring.score(request))


if __name__ == "__main__":
    main()
