"""Exports a checkpoint for others to use.

    python -m rahf.bin.export --checkpoint=W --format=safetensors --output=DIR
    python -m rahf.bin.export --checkpoint=W --format=richhf --output=DIR
    python -m rahf.bin.export --checkpoint=W --format=stablehlo --batch_size=8 --output=DIR

safetensors: parameters, config, vocabulary and model card, for rahf.load(DIR).
richhf: a state dict for the first author's PyTorch model (multi-head, paper heads).
stablehlo: safetensors, and the predict function as a program that runs without rahf.
"""

from collections.abc import Sequence

from rahf.bin import flags


def main(argv: Sequence[str] | None = None) -> None:
    parser = flags.new_parser("export", __doc__)
    add = parser.add_argument
    add("--checkpoint", required=True, metavar="W", help="workdir of a training run")
    add("--step", type=flags.a_step, help="a step, latest or best (latest)")
    add("--format", choices=("safetensors", "richhf", "stablehlo"), required=True)
    add("--output", required=True, metavar="DIR", help="a new or empty folder")
    add(
        "--licence",
        default="unknown",
        help="licence of the weights, such as apache-2.0 (%(default)s)",
    )
    add(
        "--batch_size",
        type=flags.at_least(1),
        default=1,
        help="images per call (%(default)s)",
    )
    add(
        "--platforms",
        default="cpu,cuda,tpu",
        help="platforms the program runs on (%(default)s)",
    )
    args = parser.parse_args(argv)
    with flags.clear_errors():
        from rahf.export.folder import export  # `--help` needs no JAX

        folder = export(
            args.checkpoint,
            args.output,
            form=args.format,
            step=args.step,
            licence=args.licence,
            batch_size=args.batch_size,
            platforms=tuple(args.platforms.split(",")),
        )
    for path in sorted(folder.iterdir()):
        print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
