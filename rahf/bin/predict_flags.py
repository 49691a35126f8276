"""Flags of rahf.bin.predict: what to predict, and what is written of it."""

import argparse
from typing import Any

from rahf.bin import flags


def add_sources(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that `take_sources` reads."""
    add = parser.add_argument
    files = "images, folders, JSONL, JSON, CSV or TSV files; - for JSON lines from "
    add("sources", nargs="+", help=f"{files}standard input")
    add("--prompt", help="prompt of the images without one of their own")
    for name, usual in (
        ("image", "image or file_name"),
        ("prompt", "prompt, caption or text"),
        ("id", "id"),
    ):
        text = f"in tables ({usual})"
        add(f"--{name}_column", metavar="NAME", default="", help=text)
    add("--recursive", action="store_true", help="search the folders' subfolders")
    first = "predict the first N images alone"
    add("--limit", type=flags.at_least(1), metavar="N", help=first)


def take_sources(args: dict[str, Any]):
    """Removes the flags of `add_sources` from parsed ones; returns `stream.Sources`."""
    from rahf.inference.job_sources import TableColumns
    from rahf.inference.stream import Sources

    columns = {name: args.pop(f"{name}_column") for name in ("image", "prompt", "id")}
    return Sources(
        args.pop("sources"),
        args.pop("prompt"),
        TableColumns(**columns),
        args.pop("recursive"),
        args.pop("limit"),
    )


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that `take_options` reads."""
    add = parser.add_argument
    size = "images at a time (%(default)s)"
    add("--batch_size", type=flags.at_least(1), default=16, help=size)
    errors = "stop at an image that cannot be read, or record it (%(default)s)"
    add("--on_error", choices=("fail", "skip"), default="fail", help=errors)
    maps = "write none, those of the model's size, or of the image's (%(default)s)"
    add("--heatmaps", choices=("none", "native", "full"), default="full", help=maps)
    over = "write heatmaps over their images, for viewing (%(default)s)"
    add("--overlays", choices=("on", "off"), default="on", help=over)
    sheet = "write one picture of each image with all that is predicted (%(default)s)"
    add("--sheets", choices=("on", "off"), default="off", help=sheet)
    threads = "threads that read and write pictures (one for each processor)"
    add("--writers", type=flags.at_least(1), metavar="N", help=threads)


def take_options(args: dict[str, Any]):
    """Removes the flags of `add_options` from parsed ones; returns `stream.Options`."""
    from rahf.inference.pictures import Pictures
    from rahf.inference.stream import Options

    switched = (args.pop(name) == "on" for name in ("overlays", "sheets"))
    pictures = Pictures(args.pop("heatmaps"), *switched)
    names = ("batch_size", "on_error", "writers")
    return Options(**{name: args.pop(name) for name in names}, pictures=pictures)
