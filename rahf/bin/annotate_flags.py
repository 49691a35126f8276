"""The flags of rahf.bin.annotate and its commands."""

import argparse
from collections.abc import Sequence

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
    others = {
        "export": "write the answers as a raters' file",
        "backup": "copy the database",
        "status": "print how far the work is",
    }
    parsers = {name: commands.add_parser(name, help=h) for name, h in others.items()}
    for one in (serve, tokens, replay, *parsers.values()):
        one.add_argument("--workdir", required=True, metavar="W", help="its folder")
    for name in ("export", "backup"):
        parsers[name].add_argument("--output", required=True, help="file to write")
    _add_serve_flags(serve)
    _add_replay_flags(replay)
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
    return args


def _add_serve_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("tasks", help="JSON lines of images and prompts")
    add("--images", required=True, metavar="DIR", help="folder of the images")
    add("--port", type=flags.at_least(0), default=8000, help="(%(default)s)")
    add("--host", help="address or name for others (127.0.0.1, this machine only)")
    add("--certificate", metavar="FILE", help="TLS certificate, PEM; for --host")
    add("--key", metavar="FILE", help="its key, PEM")
    add("--behind_proxy", action="store_true", help="a proxy brings TLS for --host")
    add("--raters", type=flags.at_least(1), default=3, help="per image (%(default)s)")
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


def _add_replay_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("ratings", help="a raters' file of JSON lines, such as export_scenes writes")
    add("--images", required=True, metavar="DIR", help="folder of its images")
    add("--url", default="http://127.0.0.1:8000", help="of the server (%(default)s)")
    add("--raters", type=flags.at_least(1), default=6, help="at once (%(default)s)")


def _check_host(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    if (args.certificate is None) != (args.key is None):
        parser.error("--certificate and --key go together")
    from rahf.annotation import serving

    others = args.host and args.host not in serving.LOCAL
    if others and not args.certificate and not args.behind_proxy:
        parser.error(
            f"--host={args.host} would send tokens unencrypted: give --certificate "
            "and --key, or --behind_proxy if a proxy brings TLS"
        )
