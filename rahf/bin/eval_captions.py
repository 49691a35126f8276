"""Measures how well a checkpoint predicts the captions of images.

    python -m rahf.bin.eval_captions --checkpoint=runs/captions --split=dev

  NLL           negative log-likelihood of the next piece of the true caption, given
                the image and the pieces before it, in nats
  NLL, unigram  the same for a model that knows only how often each piece occurs in
                these captions
  perplexity    exp(NLL)

Only runs with the same vocabulary can be compared.
"""

from collections.abc import Sequence

from rahf.bin import flags
from rahf.targets import Kind


def main(argv: Sequence[str] | None = None) -> None:
    flags.evaluate(Kind.CAPTION, "captions", __doc__, argv)


if __name__ == "__main__":
    main()
