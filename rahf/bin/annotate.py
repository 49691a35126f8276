"""Serves images to raters over HTTP, and keeps what they say.

    python -m rahf.bin.annotate tokens make r07 --workdir=W
    python -m rahf.bin.annotate serve images.jsonl --images=DIR --workdir=W
    python -m rahf.bin.annotate status --workdir=W
    python -m rahf.bin.annotate export --workdir=W --output=ratings.jsonl
    python -m rahf.bin.annotate backup --workdir=W --output=copy.db

images.jsonl has a line {"image": "cat.png", "prompt": "a yellow cat"} for each image.
The ratings are a file for rahf.bin.consolidate and rahf.bin.agreement. export, status
and backup may run while the server does.
"""

import argparse
import pathlib
import tempfile
from collections.abc import Sequence

from rahf import durable
from rahf.bin import flags

_LOCAL = ("127.0.0.1", "localhost", "[::1]")


def main(argv: Sequence[str] | None = None) -> None:
    parser = flags.new_parser("annotate", __doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="serve images to raters")
    tokens = commands.add_parser("tokens", help="make, list or revoke tokens")
    others = {
        "export": "write the answers as a raters' file",
        "backup": "copy the database",
        "status": "print how far the work is",
    }
    parsers = {name: commands.add_parser(name, help=h) for name, h in others.items()}
    for one in (serve, tokens, *parsers.values()):
        one.add_argument("--workdir", required=True, metavar="W", help="its folder")
    for name in ("export", "backup"):
        parsers[name].add_argument("--output", required=True, help="file to write")
    _add_serve_flags(serve)
    tokens.add_argument("action", choices=("make", "list", "revoke"))
    tokens.add_argument("name", nargs="?", help="whose token (make, revoke)")
    tokens.add_argument("--role", choices=("rater", "manager"), default="rater")
    tokens.add_argument("--url", default="http://127.0.0.1:8000", help="for the link")
    args = parser.parse_args(argv)
    if args.command == "tokens" and (args.name is None) != (args.action == "list"):
        parser.error("tokens make NAME, tokens revoke NAME, or tokens list")
    if args.command == "serve":
        _check_host(parser, args)
    with flags.clear_errors():
        _COMMANDS[args.command](args)


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
    first = "known answers before the first real image (%(default)s)"
    add("--qualification", type=flags.at_least(0), default=0, help=first)


def _check_host(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    if (args.certificate is None) != (args.key is None):
        parser.error("--certificate and --key go together")
    others = args.host and args.host not in _LOCAL
    if others and not args.certificate and not args.behind_proxy:
        parser.error(
            f"--host={args.host} would send tokens unencrypted: give --certificate "
            "and --key, or --behind_proxy if a proxy brings TLS"
        )


def _serve(args: argparse.Namespace) -> None:
    try:
        import uvicorn

        from rahf.annotation import server
    except ModuleNotFoundError as error:
        raise ValueError(
            f"annotate serve needs {error.name}: pip install 'rahf[annotate]'"
        ) from error
    from rahf.annotation import assignment, store, task_files, tokens

    rules = assignment.AssignmentRules(
        lease=args.lease, qualification=args.qualification
    )
    with store.open_store(args.workdir) as opened:
        tasks = task_files.read_tasks(args.tasks, args.images)
        added = opened.add_images(tasks, raters=args.raters)
        api = server.AnnotationApi(
            opened,
            tokens.TokenFile(args.workdir),
            pathlib.Path(args.images),
            rules,
            secure=bool(args.certificate) or args.behind_proxy,
        )
        hosts = {*_LOCAL, *([args.host] if args.host else [])}
        print(f"{args.workdir}: {added} new images; port {args.port}", flush=True)
        uvicorn.run(
            server.make_app(api, hosts),
            host=args.host or _LOCAL[0],
            port=args.port,
            ssl_certfile=args.certificate,
            ssl_keyfile=args.key,
            access_log=False,
            log_level="warning",
            server_header=False,
        )


def _tokens(args: argparse.Namespace) -> None:
    from rahf.annotation import tokens

    file = tokens.TokenFile(args.workdir)
    if args.action == "make":
        print(f"{args.url}/#token={file.make(args.name, args.role)}")
    elif args.action == "revoke":
        file.revoke(args.name)
        print(f"{args.name}: revoked")
    else:
        for person in file.people():
            print(f"{person.role:8} {person.name}")


def _export(args: argparse.Namespace) -> None:
    from rahf.annotation import answer_lines

    output = durable.check_file(args.output)
    with _copied(args.workdir) as copy:
        lines = list(answer_lines.export_lines(copy.answers()))
    durable.write_text(output, "".join(lines))
    print(f"{output}: {len(lines)} answers")


def _backup(args: argparse.Namespace) -> None:
    from rahf.annotation import store

    output = durable.check_file(args.output)
    print("written:", store.backup(args.workdir, output))


def _status(args: argparse.Namespace) -> None:
    with _copied(args.workdir) as copy:
        [[images, open_]] = copy.read(
            "SELECT COUNT(*), COALESCE(SUM(load < wanted), 0) FROM images "
            "WHERE gold IS NULL"
        )
        raters = copy.read(
            "SELECT name, paused, (SELECT COUNT(*) FROM assignments WHERE rater = name "
            "AND state = 'answered') AS answers FROM raters ORDER BY name"
        )
    print(f"{args.workdir}: {images} images, {open_} of which need raters")
    for row in raters:
        paused = f"  paused: {row['paused']}" if row["paused"] else ""
        print(f"{row['name']:20} {row['answers']:6} answers{paused}")


class _copied:
    """A copy of the database as of now, so that the server is not disturbed."""

    def __init__(self, workdir: str):
        self._workdir = workdir

    def __enter__(self):
        from rahf.annotation import store

        self._folder = tempfile.TemporaryDirectory()
        path = pathlib.Path(self._folder.name) / "copy.db"
        self._store = store.AnswerStore(store.backup(self._workdir, path))
        return self._store

    def __exit__(self, *error) -> None:
        self._store.close()
        self._folder.cleanup()


_COMMANDS = {
    "serve": _serve,
    "tokens": _tokens,
    "export": _export,
    "backup": _backup,
    "status": _status,
}

if __name__ == "__main__":
    main()
