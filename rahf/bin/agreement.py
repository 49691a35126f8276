"""Measures how far raters agree, which is the best a model can reach.

    python -m rahf.bin.agreement ratings.jsonl --output=DIR

Prints tables and writes DIR/agreement.json and DIR/agreement.html, a self-contained
page. For each score: the shares of images and of pairs of raters that agree, and
Krippendorff's alpha. For heatmaps: IoU of pairs, and each rater's map against the mean
of the others (AUC-Judd, CC), as a model is measured. For words: kappa and alpha. Each
rater is also compared with the others.
"""

import pathlib
from collections.abc import Sequence

from rahf import durable
from rahf.bin import rating_flags
from rahf.bin.flags import clear_errors, finite


def main(argv: Sequence[str] | None = None) -> None:
    parser = rating_flags.make_parser("agreement", __doc__)
    add = parser.add_argument
    add("--images", metavar="DIR", help="folder of the images (default: square maps)")
    radius = "radius of a click's disk, as a share of the height (0.05)"
    add("--radius", type=finite(0, 1), default=1 / 20, help=radius)
    add("--output", metavar="DIR", help="folder to write to (default: print only)")
    add("--title", default="Agreement of raters", help="page title (%(default)s)")
    args = parser.parse_args(argv)
    from rahf.annotation import agreement
    from rahf.reports import agreement_page

    files, folder = ("agreement.json", "agreement.html"), None
    with clear_errors():
        if args.output is not None:  # before the work
            folder = durable.check_folder(args.output, files)
        rated = rating_flags.read(args)
        aspects = None
        if args.images:
            aspects = rating_flags.read_aspects(rated, pathlib.Path(args.images))
        found = agreement.compute_agreement(rated, aspects=aspects, radius=args.radius)
    print(found.table())
    facts = found.facts
    print(
        f"\n{args.ratings}: {facts['ratings']} ratings of {facts['images']} images by "
        f"{facts['raters']} raters. ^ higher is better, v lower."
    )
    if folder:
        named = {"title": args.title, "source": args.ratings}
        with clear_errors():
            data = found.write(folder / files[0])
            page = agreement_page.write_page(folder / files[1], found, **named)
        print("written:", data, page)


if __name__ == "__main__":
    main()
