"""Trains a SentencePiece vocabulary and writes its .model file.

    python -m rahf.bin.make_vocabulary --output=my.model --input=prompts.txt --size=8000

Without --input it makes the vocabulary that ships with the package, from the prompts of
the scenes dataset. To use a vocabulary, set --config.input.vocabulary=my.model.
"""

import pathlib
from collections.abc import Sequence

from rahf import durable
from rahf.bin.flags import at_least, clear_errors, new_parser
from rahf.input import vocabulary, vocabulary_training


def main(argv: Sequence[str] | None = None) -> None:
    parser = new_parser("make_vocabulary", __doc__)
    parser.add_argument(
        "--output",
        type=pathlib.Path,
        default=vocabulary.SCENES,
        help="file to write (the shipped vocabulary)",
    )
    parser.add_argument(
        "--input",
        type=pathlib.Path,
        help="UTF-8 text to train on, one prompt per line (the prompts of scenes)",
    )
    size = "maximum number of pieces (%(default)s)"
    parser.add_argument("--size", type=at_least(1), default=1000, help=size)
    args = parser.parse_args(argv)
    if args.input is None and args.output == vocabulary.SCENES and args.size != 1000:
        parser.error("the shipped vocabulary has --size=1000; give another --output")
    if args.input is not None and args.output == vocabulary.SCENES:
        parser.error("--input needs an --output")
    with clear_errors():
        durable.check_file(args.output)
        lines = _lines(args.input)
        made = vocabulary_training.train(lines, args.size)
        durable.write_bytes(args.output, made)
        trained = vocabulary.Vocabulary(args.output)
    pieces = trained.size - vocabulary.EXTRA_IDS
    print(f"{args.output}: {pieces} pieces from {len(lines)} prompts")


def _lines(path: pathlib.Path | None) -> list[str]:
    if path is None:
        return list(vocabulary_training.scenes_prompts())
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected UTF-8 text ({error.reason})") from error


if __name__ == "__main__":
    main()
