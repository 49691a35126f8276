"""Measures how many scenes per second one core makes.

    python -m rahf.bin.benchmark_scenes --size=96

A scene is a whole record: description, image, three simulated raters and the
consolidation of their labels.
"""

import json
import time
from collections.abc import Sequence

from rahf.bin.flags import at_least, new_parser
from rahf.datasets.scenes import Scenes
from rahf.datasets.scenes.grammar import DIFFICULTIES


def scenes_per_second(records: Scenes) -> float:
    """Makes every record and returns the rate per second of CPU time."""
    records[0]  # imports, and the shape caches of the first object
    start = time.process_time()
    for index in range(len(records)):
        records[index]
    return len(records) / (time.process_time() - start)


def main(argv: Sequence[str] | None = None) -> None:
    parser = new_parser("benchmark_scenes", __doc__)
    add = parser.add_argument
    add("--size", type=at_least(1), default=96, help="side in pixels (%(default)s)")
    add("--scenes", type=at_least(1), default=2000, help="scenes to make (%(default)s)")
    add("--difficulty", choices=DIFFICULTIES, help="difficulty (default: each)")
    args = parser.parse_args(argv)
    for difficulty in [args.difficulty] if args.difficulty else DIFFICULTIES:
        try:
            records = Scenes(
                "train", args.size, difficulty=difficulty, num_examples=args.scenes
            )
        except ValueError as error:
            parser.error(str(error))
        rate = {
            "difficulty": difficulty,
            "size": args.size,
            "scenes": args.scenes,
            "scenes_per_second_per_core": round(scenes_per_second(records), 1),
        }
        print(json.dumps(rate))


if __name__ == "__main__":
    main()
