"""Compares a checkpoint's heatmaps with the raters'.

    python -m rahf.bin.eval_heatmaps --checkpoint=runs/scenes --split=test
    python -m rahf.bin.eval_heatmaps --predictions=DIR --labels=runs/scenes

MSE is over all images, and "MSE, GT=0" over those whose true map is empty. The others
are computed per image, then averaged over the images whose true map is not empty:

  NSS       mean z-score of the map at pixels that raters marked; 0 is chance
  KLD       divergence of the map from the truth, in nats; 0 is best
  AUC-Judd  how well the map separates marked pixels from the rest; 0.5 is chance
  SIM       shared mass of the two maps as distributions, 0 to 1
  CC        Pearson correlation over pixels, -1 to 1
"""

from collections.abc import Sequence

from rahf.bin import flags
from rahf.targets import Kind


def main(argv: Sequence[str] | None = None) -> None:
    flags.evaluate(Kind.HEATMAP, "heatmaps", __doc__, argv)


if __name__ == "__main__":
    main()
