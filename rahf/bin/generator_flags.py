"""The flags of a generator, which generate and mend share."""

import argparse
import re
from typing import Any

from rahf.bin import flags

HELP = "run of configs/muse_scenes.py, or the folder of a diffusers pipeline"
_SIZE = re.compile(r"(\d+)(?:x(\d+))?")


def add(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Adds the flags that `load` reads, and returns the parser.

    They have no defaults, which are the generator's own.
    """
    both = parser.add_argument_group("how it samples")
    positive = flags.at_least(1)
    both.add_argument("--steps", type=positive, help="of sampling (Muse: 16)")
    text = "how far to go beyond the prompt; 1 = none (Muse: 2)"
    both.add_argument("--guidance", type=flags.finite(0), help=text)
    add = parser.add_argument_group("of a Muse").add_argument
    add("--step", help="a step of its training, or latest (latest)")
    add("--order", choices=("halton", "confidence"), help="(halton)")
    text = "of --order=confidence (4.5)"
    add("--temperature", type=flags.finite(0), help=text)
    add = parser.add_argument_group("of a diffusers pipeline").add_argument
    add("--negative_prompt", metavar="TEXT", help="what to steer away from")
    add("--strength", type=flags.finite(0, 1), help="of inpainting; 1 = all anew")
    add("--size", type=a_size, metavar="HxW", help="512, or 768x1024 (the pipeline's)")
    add("--dtype", choices=("float32", "bfloat16", "float16"))
    add("--device", help="cuda:1 or cpu (the first GPU, or the CPU)")
    add("--batch_size", type=positive, help="images at once (1)")
    text = "keep on the GPU only the component that is running"
    add("--offload", action="store_true", default=None, help=text)
    return parser


def a_size(text: str) -> tuple[int, int]:
    """An argparse type: "512" -> (512, 512), "768x1024" -> (768, 1024)."""
    found = _SIZE.fullmatch(text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r}: expected pixels, 512 or 768x1024")
    return int(found[1]), int(found[2] or found[1])


def load(args: argparse.Namespace):
    """Returns the generator in the folder `args.generator`, as the flags ask for it.

    Load it before JAX computes: of a pipeline, JAX learns to share the GPU.
    """
    from rahf.generators import loading

    names = {*loading.MUSE, *loading.PIPELINE, *loading.PLACEMENT}
    return loading.load(args.generator, {name: getattr(args, name) for name in names})


def describe(generator) -> dict[str, Any]:
    """Returns what images of the generator depend on, and which models, as far as is
    known, chose what it learned from (`rahf.applications.choosers`)."""
    from rahf.applications.choosers import chosen_by
    from rahf.generators import loading

    return loading.describe(generator) | chosen_by(getattr(generator, "sources", ()))
