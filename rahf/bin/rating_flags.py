"""What the binaries that read raters' files share: flags and reading."""

import argparse
import pathlib

from rahf import images
from rahf.bin import flags
from rahf.datasets.ratings import rating_files


def make_parser(prog: str, description: str | None) -> argparse.ArgumentParser:
    """Returns a parser with the flags that say how to read a raters' file."""
    parser = flags.new_parser(prog, description)
    add = parser.add_argument
    add("ratings", help="JSON lines, or a CSV file of scores (docs/annotate.md)")
    add(
        "--columns",
        type=_columns,
        default={},
        metavar="COLUMN:FIELD,...",
        help="columns of a CSV file that are not named after their field",
    )
    add("--scale", type=_scale, default=(1, 5), help="scale of a CSV's scores (1-5)")
    add("--prompts", metavar="CSV", help="file with columns image and prompt")
    return parser


def read(args: argparse.Namespace) -> list[rating_files.ImageRatings]:
    """Reads the file that the flags name."""
    return rating_files.read(
        args.ratings, columns=args.columns, scale=args.scale, prompts=args.prompts
    )


def read_aspects(
    rated: list[rating_files.ImageRatings], folder: pathlib.Path
) -> dict[str, float]:
    """Returns the aspect ratio of each image, width / height."""
    shapes = {
        each.image: images.read_image(folder / each.image).shape for each in rated
    }
    return {image: width / height for image, (height, width, _) in shapes.items()}


def _columns(text: str) -> dict[str, str]:
    pairs = [pair.rpartition(":") for pair in text.split(",")]
    if not all(column and field for column, _, field in pairs):
        raise argparse.ArgumentTypeError("expected COLUMN:FIELD,COLUMN:FIELD")
    return {column.strip(): field.strip() for column, _, field in pairs}


def _scale(text: str) -> tuple[float, float]:
    try:
        low, high = (flags.finite()(part) for part in text.split("-"))
    except (ValueError, argparse.ArgumentTypeError):
        raise argparse.ArgumentTypeError("expected WORST-BEST, such as 1-5") from None
    return low, high
