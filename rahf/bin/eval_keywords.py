"""Measures how well a checkpoint finds the misaligned words of a prompt.

    python -m rahf.bin.eval_keywords --checkpoint=runs/scenes --split=test
    python -m rahf.bin.eval_keywords --predictions=DIR --labels=runs/scenes

The positive class is "misaligned".

  P, R, F1 micro  precision, recall and their harmonic mean, all words pooled
  P, R, F1 mean   the same per image, averaged over images; a correct answer on a
                  prompt with no misaligned word counts 1 (richhf: 0)
  AP              average precision of the ranking of words; needs no threshold
"""

from collections.abc import Sequence

from rahf.bin import flags
from rahf.targets import Kind


def main(argv: Sequence[str] | None = None) -> None:
    flags.evaluate(Kind.WORDS, "keywords", __doc__, argv)


if __name__ == "__main__":
    main()
