"""Compares a checkpoint's scores with the raters' mean scores.

  python -m rahf.bin.eval_scores --checkpoint=runs/scenes --split=test
  python -m rahf.bin.eval_scores --predictions=DIR --labels=runs/scenes

PLCC  Pearson linear correlation over images, -1 to 1
SRCC  Spearman rank correlation over images, -1 to 1
MSE   mean squared error of scores in [0, 1]
"""

from collections.abc import Sequence

from rahf.bin import flags
from rahf.targets import Kind


def main(argv: Sequence[str] | None = None) -> None:
    flags.evaluate(Kind.SCORE, "scores", __doc__, argv)


if __name__ == "__main__":
    main()
