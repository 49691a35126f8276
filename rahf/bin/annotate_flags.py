"""The flags of rahf.bin.annotate and its commands."""

import argparse
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from rahf.bin import flags


def parse(description: str | None, argv: Sequence[str] | None) -> argparse.Namespace:
    """Returns the flags of one command; ends the program if they do not fit together.

    Args:
      description: the text of `--help`.
      argv: the words of the command line, None for the process's own.
    """
    parser = flags.new_parser("annotate", description)
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="serve images to raters")
    tokens = commands.add_parser("tokens", help="make, list or revoke tokens")
    replay = commands.add_parser("replay", help="answer as a raters' file says")
    importing = commands.add_parser("import", help="read other tools' annotations")
    others = {
        "export": "write the answers as a raters' file or in another tool's form",
        "backup": "copy the database",
        "status": "print how far the work is",
    }
    parsers = {name: commands.add_parser(name, help=h) for name, h in others.items()}
    for one in (serve, tokens, replay, *parsers.values()):
        required = one is not parsers["export"]
        one.add_argument("--workdir", required=required, metavar="W", help="its folder")
    for name in ("export", "backup"):
        parsers[name].add_argument("--output", required=True, help="file to write")
    _add_serve_flags(serve)
    _add_replay_flags(replay)
    _add_export_flags(parsers["export"])
    _add_import_flags(importing)
    tokens.add_argument("action", choices=("make", "list", "revoke"))
    tokens.add_argument("name", nargs="?", help="whose token (make, revoke)")
    tokens.add_argument("--role", choices=("rater", "manager"), default="rater")
    tokens.add_argument("--url", default="http://127.0.0.1:8000", help="for the link")
    args = parser.parse_args(argv)
    if args.command == "tokens" and (args.name is None) != (args.action == "list"):
        parser.error("tokens make NAME, tokens revoke NAME, or tokens list")
    if args.command == "serve":
        if (args.order == "uncertain") != (args.checkpoint is not None):
            parser.error("--order=uncertain and --checkpoint=W go together")
        _check_host(parser, args)
    if args.command == "export":
        if (args.workdir is None) == (args.ratings is None):
            parser.error("export needs --workdir, or --ratings and --images")
        if args.ratings and not args.images:
            parser.error("--ratings needs --images, for the sizes")
    if args.command == "import":
        _check_import(parser, args)
    return args


def _add_serve_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("tasks", help="list of images and prompts, folder, or output of predict")
    add("--images", metavar="DIR", help="folder of the images (where the list is)")
    add("--recursive", action="store_true", help="search a folder's subfolders too")
    _add_columns(add)
    add("--port", type=flags.at_least(0), default=8000, help="(%(default)s)")
    add("--host", help="address or name for others (127.0.0.1, this machine only)")
    add("--certificate", metavar="FILE", help="TLS certificate, PEM; for --host")
    add("--key", metavar="FILE", help="its key, PEM")
    add("--behind_proxy", action="store_true", help="a proxy brings TLS for --host")
    number = "answers for each image (as many as before; 3 in a new workdir)"
    add("--raters", type=flags.at_least(1), help=number)
    lease = "seconds until an image not heard of goes to others (%(default)s)"
    add("--lease", type=flags.finite(1), default=1800.0, help=lease)
    orders = ("given", "random", "uncertain")
    add("--order", choices=orders, default="given", help="of images (%(default)s)")
    add("--checkpoint", metavar="W", help="with uncertain: the model that is unsure")
    add("--seed", type=int, default=0, help="with random (%(default)s)")
    first = "known answers before the first real image (%(default)s)"
    add("--qualification", type=flags.at_least(0), default=0, help=first)
    shown = "let raters see the model's guesses, marked as such (hidden)"
    told = "what raters read first: plain text, or simple Markdown (built-in)"
    add("--instructions", metavar="FILE", help=told)
    lines = "JSON lines of image, prompt, label and note, shown with it (built-in)"
    add("--examples", metavar="FILE", help=lines)
    add("--show_guesses", action="store_true", help=shown)
    peak = "least value of a heatmap's peak that is a guessed point (%(default)s)"
    add("--guess_threshold", type=flags.finite(0, 1), default=0.3, help=peak)
    meaning = "what labels of Label Studio's predictions mean, as for import"
    add("--labels", type=_labels, default={}, metavar="LABEL:FIELD,...", help=meaning)


def _add_replay_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("ratings", help="a raters' file of JSON lines, such as export_scenes writes")
    add("--images", required=True, metavar="DIR", help="folder of its images")
    add("--url", default="http://127.0.0.1:8000", help="of the server (%(default)s)")
    add("--raters", type=flags.at_least(1), default=6, help="at once (%(default)s)")


def _add_columns(add: Callable) -> None:
    for name, usual in (("image", "image"), ("prompt", "prompt")):
        text = f"the {usual}'s field in the file (the usual ones)"
        add(f"--{name}_column", metavar="NAME", default="", help=text)


def _add_export_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    forms = ("jsonl", "label_studio", "coco")
    add("--format", choices=forms, default="jsonl", help="(%(default)s)")
    add("--ratings", metavar="FILE", help="a raters' file, in place of a workdir")
    add("--images", metavar="DIR", help="folder of its images")
    before = "what comes before an image's path for Label Studio to find it"
    add("--image_prefix", metavar="URL", default="", help=before)


def _add_import_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("files", nargs="+", metavar="FILE", help="what the other tool exported")
    forms = ("label_studio", "cvat", "rapidata")
    add("--format", choices=forms, required=True, help="the tool")
    add("--images", metavar="DIR", help="folder of the images (not for rapidata)")
    text = "raters' file to write; for rapidata, the data directory of a dataset"
    add("--output", required=True, help=text)
    add("--rater", metavar="NAME", help="who made annotations that do not say")
    meaning = "what labels mean; a field of a raters' file, a score, or ignore"
    add("--labels", type=_labels, default={}, metavar="LABEL:FIELD,...", help=meaning)
    asked = "labels that raters were asked for (those in the file)"
    add("--fields", metavar="FIELD,...", help=asked)
    add("--prompts", metavar="CSV", help="table with columns image and prompt")
    _add_columns(add)
    share = flags.finite(0, 1)
    add("--dev_share", type=share, default=0.1, help="rapidata: prompts in dev (0.1)")
    add("--test_share", type=share, default=0.1, help="rapidata: in test (0.1)")
    add("--seed", type=int, default=0, help="rapidata: seed of the splits (0)")


def _labels(text: str) -> dict[str, str]:
    pairs = [pair.rpartition(":") for pair in text.split(",")]
    if not all(label and field for label, _, field in pairs):
        raise argparse.ArgumentTypeError("expected LABEL:FIELD,LABEL:FIELD")
    return {label.strip(): field.strip() for label, _, field in pairs}


def _check_import(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    if args.format == "rapidata":
        if len(args.files) > 1:
            parser.error("rapidata: give one Parquet file, or the folder of several")
        if pathlib.Path(args.output).suffix in (".jsonl", ".json", ".csv"):
            parser.error(
                f"--output={args.output}: Rapidata publishes sums over raters, not "
                "their answers, which become a dataset; give a data directory"
            )
    elif args.images is None:
        parser.error(f"--format={args.format} needs --images, the folder of the images")


def _check_host(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    if (args.certificate is None) != (args.key is None):
        parser.error("--certificate and --key go together")
    from rahf.annotation import serving

    others = args.host and serving.bracket(args.host) not in serving.LOCAL
    if others and not args.certificate and not args.behind_proxy:
        parser.error(
            f"--host={args.host} would send tokens unencrypted: give --certificate "
            "and --key, or --behind_proxy if a proxy brings TLS"
        )


def take_import(options: dict[str, Any]) -> dict[str, Any]:
    """Returns the parsed flags of an import as arguments of `reading.import_files`."""
    from rahf.annotation.formats.importing import ImportOptions
    from rahf.annotation.formats.label_names import LabelNames
    from rahf.datasets.ratings import prompt_table

    taken = {name: options[name] for name in ("files", "output")}
    taken["form"], taken["options"] = options["format"], None
    names = ("dev_share", "test_share", "seed")
    taken["splits"] = {name: options[name] for name in names}
    if options["images"] is None:
        return taken
    names = ("rater", "image_column", "prompt_column")
    fields, prompts = options["fields"], options["prompts"]
    taken["options"] = ImportOptions(
        images=pathlib.Path(options["images"]),
        names=LabelNames(options["labels"]),
        fields=None if fields is None else [f for f in fields.split(",") if f],
        prompts={} if prompts is None else prompt_table.read(prompts),
        **{name: options[name] for name in names},
    )
    return taken
