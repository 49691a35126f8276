"""Cross-validates on rated images: k runs, each tested on another part.

    python -m rahf.bin.cross_validate --folds=5 --workdir=runs/mine \\
        --config="configs/rated_images.py:mos_quality:1-5->overall" \\
        --config.input.rated_images.path=ratings/ratings.csv

Every part of the prompts is the test split once. All other flags go to rahf.bin.train,
which runs once per fold in runs/mine/fold_<i>. The same command resumes an interrupted
run. Prints PLCC and SRCC as the mean and standard deviation over folds and over all
predictions pooled; runs/mine/scores.json keeps them.
"""

import subprocess
import sys
from collections.abc import Sequence

from rahf.bin import flags, shipped

_KEY = "config.input.rated_images"


def main(argv: Sequence[str] | None = None) -> None:
    configs = f"Shipped configs:\n{shipped.listing()}"
    parser = flags.new_parser(
        "cross_validate", __doc__, allow_abbrev=False, epilog=configs
    )
    add = parser.add_argument
    add("--workdir", required=True, help="where the folds are written")
    add(
        "--folds", type=flags.at_least(2), default=5, help="k, at least 2 (%(default)s)"
    )
    step = flags.a_step
    add(
        "--step", type=step, help="of each fold: a step, latest or best on dev (latest)"
    )
    args, rest = parser.parse_known_args(argv)
    folders = [f"{args.workdir}/fold_{fold}" for fold in range(args.folds)]
    for fold, folder in enumerate(folders):
        print(f"fold {fold} of {args.folds}: {folder}", flush=True)
        fold_flags = [f"--{_KEY}.folds={args.folds}", f"--{_KEY}.fold={fold}"]
        command = [sys.executable, "-m", "rahf.bin.train", f"--workdir={folder}"]
        done = subprocess.run([*command, *rest, *fold_flags], check=False)
        if done.returncode:
            raise SystemExit(done.returncode)
    with flags.clear_errors():
        from rahf.evaluation.cross_validation import pool_checkpoints

        print(pool_checkpoints(args.workdir, folders, args.step))


if __name__ == "__main__":
    main()
