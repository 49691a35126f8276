"""Prints the ceiling of the scenes dataset: what a perfect model would score.

    python -m rahf.bin.scenes_ceiling --split=test --size=96

"oracle" knows each scene exactly and is measured against the raters' consolidated
labels, as a model is. "rater" is each single rater against the other two: what
one careful person reaches. Read a model's results as a share of these.
"""

import argparse
import json
import pathlib
from collections.abc import Sequence

from rahf.data.scenes import SPLITS, Scenes
from rahf.data.scenes.grammar import DIFFICULTIES
from rahf.evaluation import tables
from rahf.evaluation.ceiling import compute_ceiling


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m rahf.bin.scenes_ceiling",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--split", choices=SPLITS, default="test", help="(default %(default)s)")
    add("--size", type=int, default=96, help="side in pixels (default %(default)s)")
    add("--seed", type=int, default=0, help="of the dataset (default %(default)s)")
    add(
        "--difficulty",
        choices=DIFFICULTIES,
        default="full",
        help="of the scenes (default %(default)s)",
    )
    add("--examples", type=int, help="how many scenes (default: the whole split)")
    add("--output", type=pathlib.Path, help="also write the numbers to this JSON file")
    flags = parser.parse_args(argv)
    if flags.output:  # before the work
        flags.output.parent.mkdir(parents=True, exist_ok=True)
    try:
        records = Scenes(
            flags.split,
            flags.size,
            seed=flags.seed,
            difficulty=flags.difficulty,
            num_examples=flags.examples,
        )
    except ValueError as error:
        parser.error(str(error))
    results = compute_ceiling(records)
    print(tables.render(results))
    if flags.output:
        flags.output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
