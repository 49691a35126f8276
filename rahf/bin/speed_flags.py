"""The flags of the commands that measure speed."""

import argparse
import pathlib
from collections.abc import Sequence

from rahf.bin import flags, shipped


def run(name: str, description: str | None, argv: Sequence[str] | None) -> None:
    """The main function of `benchmark_step` and `benchmark_predict`."""
    listing = f"Shipped configs:\n{shipped.listing()}"
    parser = flags.new_parser(name, description, epilog=listing)
    add = parser.add_argument
    add("--config", default="rahf_base", help="name or path of a config (%(default)s)")
    add("--batch", type=_sizes, help="examples at a time (config.input.batch_size)")
    add("--variant", type=_words, default=[None], help="multihead, augmented")
    add("--heads", type=_words, default=[None], help="light, paper: of both kinds")
    add("--dtype", type=_words, default=[None], help="float32, bfloat16")
    if name == "benchmark_step":
        add("--remat", type=_words, default=[None], help="none, full, dots")
    add("--image_size", type=flags.at_least(1), help="config.input.image_size")
    add("--text_length", type=flags.at_least(2), help="of the encoder and the decoder")
    add("--repeats", type=flags.at_least(1), default=5, help="runs each (%(default)s)")
    add("--output", help="a JSON file to write the results to")
    args = parser.parse_args(argv)
    if args.output and not pathlib.Path(args.output).absolute().parent.is_dir():
        parser.error(f"--output={args.output}: its folder does not exist")
    with flags.clear_errors():
        _measure(name, args)


def _sizes(text: str) -> list[int]:
    return [flags.at_least(1)(part) for part in text.split(",")]


def _words(text: str) -> list[str]:
    return text.split(",")


def _measure(name: str, args: argparse.Namespace) -> None:
    from rahf.benchmarks import speed, speed_table  # import JAX, which is slow

    config = shipped.load(args.config)
    if args.image_size:
        config.input.image_size = args.image_size
    if args.text_length:
        length = args.text_length
        config.input.update(text_length=length, target_length=length)
    speed_table.run(
        config,
        args.config,
        getattr(speed, name.replace("benchmark", "measure")),
        args.batch or [config.input.batch_size],
        {option: getattr(args, option, [None]) for option in speed.VALUES},
        args.repeats,
        args.output,
    )
