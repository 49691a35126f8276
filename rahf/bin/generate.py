"""Generates images of prompts.

    python -m rahf.bin.generate runs/muse prompts.txt --samples=8 --output=generated
    python -m rahf.bin.generate runs/muse --prompt="two red cubes" --output=cubes
    python -m rahf.bin.generate runs/muse --split=test --examples=500 --samples=8 \\
        --output=held_out
    python -m rahf.bin.generate stable-diffusion-xl-base-1.0 prompts.txt --output=sdxl

DIR gets an image for each prompt and seed, 000012-3.png, and metadata.jsonl, so that it
is what rahf.bin.predict takes. An image depends on the generator, its prompt, its seed
and the options of sampling alone. The folder is complete or does not exist; interrupted,
the same command goes on. Of a pipeline of diffusers only local files are read.
"""

from collections.abc import Sequence

from rahf.bin import flags, generator_flags


def main(argv: Sequence[str] | None = None) -> None:
    parser = flags.new_parser("generate", __doc__)
    add = parser.add_argument
    add("generator", metavar="G", help=generator_flags.HELP)
    add("prompts", nargs="?", help="text file, or JSON lines or CSV with prompts")
    add("--prompt", action="append", default=[], help="a prompt; repeatable")
    add("--split", help="take prompts from this split of the generator's own task")
    add("--examples", type=flags.at_least(1), default=100, help="of the split (100)")
    add("--samples", type=flags.at_least(1), default=1, help="images a prompt (1)")
    add("--seed", type=flags.at_least(0), default=0, help="seed of the first one (0)")
    add("--output", required=True, metavar="DIR", help="folder to write")
    args = generator_flags.add(parser).parse_args(argv)
    with flags.clear_errors():
        from rahf.applications.generating import GenerateRequest, write_images
        from rahf.applications.prompt_lists import read_prompts

        prompts = [*args.prompt, *(read_prompts(args.prompts) if args.prompts else [])]
        generator = generator_flags.load(args)
        if args.split:
            if not (of_split := getattr(generator, "prompts", None)):
                parser.error("--split is for a Muse, which has a task of its own")
            prompts += of_split(args.split, args.examples)
        if not prompts:
            parser.error("expected prompts: a file, --prompt or --split")
        pick = lambda *names: {name: getattr(args, name) for name in names}
        request = GenerateRequest(
            prompts=prompts,
            made_by=generator_flags.describe(generator),
            at_once=generator.batch_size,
            **pick("output", "samples", "seed"),
        )
        print(write_images(request, generator))


if __name__ == "__main__":
    main()
