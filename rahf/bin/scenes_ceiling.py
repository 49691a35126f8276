"""Prints the ceiling of the scenes dataset: what a perfect model would score.

    python -m rahf.bin.scenes_ceiling --split=test --size=96

"oracle" knows each scene exactly and is compared with the raters' consolidated labels,
as a model is. "rater" is each rater against the other two: what one careful person
reaches. Read a model's results as a share of these.
"""

import json
import pathlib
from collections.abc import Sequence

from rahf import durable
from rahf.bin.flags import at_least, new_parser
from rahf.datasets.scenes import SPLITS, Scenes
from rahf.datasets.scenes.grammar import DIFFICULTIES
from rahf.durable import check_file
from rahf.evaluation import text_tables
from rahf.evaluation.scenes_ceiling import compute_ceiling


def main(argv: Sequence[str] | None = None) -> None:
    parser = new_parser("scenes_ceiling", __doc__)
    add = parser.add_argument
    add("--split", choices=SPLITS, default="test", help="split (%(default)s)")
    add("--size", type=at_least(1), default=96, help="side in pixels (%(default)s)")
    add("--seed", type=int, default=0, help="seed of the dataset (%(default)s)")
    add("--difficulty", choices=DIFFICULTIES, default="full", help="(%(default)s)")
    add(
        "--examples",
        type=at_least(1),
        help="number of scenes (default: the whole split)",
    )
    add("--output", type=pathlib.Path, help="JSON file to write the numbers to")
    args = parser.parse_args(argv)
    try:
        if args.output:  # before the work
            check_file(args.output)
        records = Scenes(
            args.split,
            args.size,
            seed=args.seed,
            difficulty=args.difficulty,
            num_examples=args.examples,
        )
    except ValueError as error:
        parser.error(str(error))
    results = compute_ceiling(records)
    print(text_tables.render(results))
    if args.output:
        durable.write_text(args.output, json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
