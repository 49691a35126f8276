"""Serves images to raters over HTTP, and keeps what they say.

    python -m rahf.bin.annotate tokens make r07 --workdir=W
    python -m rahf.bin.annotate serve images.jsonl --images=DIR --workdir=W
    python -m rahf.bin.annotate status --workdir=W
    python -m rahf.bin.annotate export --workdir=W --output=ratings.jsonl
    python -m rahf.bin.annotate import project.json --format=label_studio \\
        --images=DIR --output=ratings.jsonl
    python -m rahf.bin.annotate backup --workdir=W --output=copy.db
    python -m rahf.bin.annotate replay pictures/ratings.jsonl --images=pictures --workdir=W

images.jsonl has a line {"image": "cat.png", "prompt": "a yellow cat"} for each image;
docs/annotate.md lists what else may be served, exported and imported. The ratings are a
file for rahf.bin.consolidate and rahf.bin.agreement. export, status and backup may run
while the server does. replay plays the raters of an existing file, to
try a server or a launch script without people.
"""

from collections.abc import Sequence

from rahf.bin import annotate_flags, flags


def main(argv: Sequence[str] | None = None) -> None:
    args = annotate_flags.parse(__doc__, argv)
    with flags.clear_errors():
        _run(vars(args))


def _run(options: dict) -> None:
    from rahf import durable
    from rahf.annotation import backup, replaying, serving, tokens
    from rahf.annotation.formats import reading

    command = options.pop("command")
    if command == "serve":
        serving.serve(serving.ServeOptions(**options))
    elif command == "tokens":
        print(tokens.run(**options))
    elif command == "replay":
        print(serving.replay(replaying.ReplayOptions(**options)))
    elif command == "import":
        print(reading.import_files(**annotate_flags.take_import(options)))
    elif command == "export":
        print(serving.export(**options))
    elif command == "status":
        print(serving.describe(options["workdir"]))
    else:
        output = durable.check_file(options["output"])
        print("written:", backup.backup(options["workdir"], output))


if __name__ == "__main__":
    main()
