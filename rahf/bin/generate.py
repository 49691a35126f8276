"""Generates images of prompts.

    python -m rahf.bin.generate runs/muse prompts.txt --samples=8 --output=generated
    python -m rahf.bin.generate runs/muse --prompt="two red cubes" --output=cubes
    python -m rahf.bin.generate runs/muse --split=test --examples=500 --samples=8 \\
        --output=held_out

DIR gets an image for each prompt and seed, 000012-3.png, and metadata.jsonl, so that it
is what rahf.bin.predict takes. An image depends on the generator, its prompt, its seed
and the options of sampling alone. The folder is complete or does not exist; interrupted,
the same command goes on.
"""

from collections.abc import Sequence

from rahf.bin import flags


def main(argv: Sequence[str] | None = None) -> None:
    parser = flags.new_parser("generate", __doc__)
    add = parser.add_argument
    add("generator", metavar="W", help="workdir of a run of configs/muse_scenes.py")
    add("prompts", nargs="?", help="text file, or JSON lines or CSV with prompts")
    add("--prompt", action="append", default=[], help="a prompt; repeatable")
    add("--split", help="take prompts from this split of the generator's own task")
    add("--examples", type=flags.at_least(1), default=100, help="of the split (100)")
    add("--samples", type=flags.at_least(1), default=1, help="images a prompt (1)")
    add("--seed", type=flags.at_least(0), default=0, help="seed of the first one (0)")
    add("--step", help="a step of the generator, or latest (latest)")
    add("--steps", type=flags.at_least(1), default=16, help="of sampling (16)")
    add("--guidance", type=float, default=2.0, help="1 = none (%(default)s)")
    add("--order", choices=("halton", "confidence"), default="halton")
    add("--temperature", type=float, default=4.5, help="of --order=confidence (4.5)")
    add("--output", required=True, metavar="DIR", help="folder to write")
    args = parser.parse_args(argv)
    with flags.clear_errors():
        from rahf.applications.generating import GenerateRequest, write_images
        from rahf.applications.prompt_lists import read_prompts
        from rahf.generators.muse.generator import MuseGenerator
        from rahf.generators.muse.sampling import SamplingOptions

        names = ("steps", "guidance", "order", "temperature")
        options = {name: getattr(args, name) for name in names}
        generator = MuseGenerator.load(
            args.generator, args.step, SamplingOptions(**options)
        )
        prompts = list(args.prompt)
        prompts += read_prompts(args.prompts) if args.prompts else []
        prompts += generator.prompts(args.split, args.examples) if args.split else []
        if not prompts:
            parser.error("expected prompts: a file, --prompt or --split")
        made_by = {"generator": generator.digest, "options": options}
        fields = {"samples": args.samples, "seed": args.seed, "output": args.output}
        request = GenerateRequest(prompts=prompts, made_by=made_by, **fields)
        print(write_images(request, generator))


if __name__ == "__main__":
    main()
