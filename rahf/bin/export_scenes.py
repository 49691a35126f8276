"""Writes images of the scenes dataset, with their prompts and ratings, as files.

    python -m rahf.bin.export_scenes --output=DIR --examples=8

DIR gets one PNG per scene; prompts.jsonl, so that rahf.bin.predict reads the folder as
it is; and ratings.jsonl, the simulated raters' answers, for rahf.bin.consolidate.
"""

import json
import pathlib
from collections.abc import Sequence

from PIL import Image

from rahf import durable
from rahf.bin.flags import at_least, clear_errors, new_parser
from rahf.datasets.scenes import SPLITS, Scenes
from rahf.datasets.scenes.grammar import DIFFICULTIES


def main(argv: Sequence[str] | None = None) -> None:
    parser = new_parser("export_scenes", __doc__)
    add = parser.add_argument
    add("--output", required=True, help="folder to write to")
    add("--split", choices=SPLITS, default="test", help="split (%(default)s)")
    add("--examples", type=at_least(1), default=8, help="scenes (%(default)s)")
    add("--size", type=at_least(1), default=256, help="side in pixels (%(default)s)")
    add("--seed", type=int, default=0, help="other seeds, other scenes (%(default)s)")
    add("--difficulty", choices=DIFFICULTIES, default="full", help="(%(default)s)")
    args = parser.parse_args(argv)
    options = {"difficulty": args.difficulty, "num_examples": args.examples}
    try:
        scenes = Scenes(args.split, args.size, seed=args.seed, **options)
    except ValueError as error:
        parser.error(str(error))
    with clear_errors():
        files = ("prompts.jsonl", "ratings.jsonl")
        output = durable.check_folder(args.output, files)
        _write(scenes, output)
    print(f"{output}: {len(scenes)} scenes, prompts.jsonl and ratings.jsonl")


def _write(scenes: Scenes, output: pathlib.Path) -> None:
    with (
        (output / "prompts.jsonl").open("w", encoding="utf-8") as prompts,
        (output / "ratings.jsonl").open("w", encoding="utf-8") as ratings,
    ):
        for record in scenes:
            name = f"{record['uid']}.png"
            Image.fromarray(record["image"]).save(output / name)
            row = {"image": name, "prompt": record["prompt"]}
            prompts.write(json.dumps(row, ensure_ascii=False) + "\n")
            for rating in record["ratings"]:
                ratings.write(json.dumps(row | rating, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
