"""Ranks predicted images for people: a list, a table and a contact sheet.

    python -m rahf.bin.rank predictions --sort_by=plausibility --top=200 --output=best
    python -m rahf.bin.rank chosen/manifest.jsonl --chosen --sort_by=overall \\
        --output=shortlist

DIR gets ranked.jsonl, ranked.csv and index.html, a page that needs nothing but the
folder: sort by any score, filter by prompt, click or press Enter to enlarge. It is
complete or does not exist; the same command again writes nothing.
"""

from collections.abc import Sequence

from rahf.bin import flags


def main(argv: Sequence[str] | None = None) -> None:
    parser = flags.new_parser("rank", __doc__)
    add = parser.add_argument
    add("predictions", nargs="+", help="what predict or score wrote, or a manifest")
    add("--sort_by", required=True, help="score, or 0.7*plausibility+0.3*overall")
    add("--top", type=flags.at_least(0), default=0, help="images to list; 0 = all")
    add("--worst", action="store_true", help="the lowest first")
    add("--chosen", action="store_true", help="only the chosen ones of a manifest")
    add("--no_sheet", action="store_true", help="no page and no pictures")
    size = "longest side of the page's pictures, in pixels (%(default)s)"
    add("--size", type=flags.at_least(16), default=512, help=size)
    add("--title", default="Ranked images", help="page title (%(default)s)")
    errors = "images gone or changed, lines without a score: stop or leave out (fail)"
    add("--on_error", choices=("fail", "skip"), default="fail", help=errors)
    add("--output", required=True, metavar="DIR", help="folder to write")
    args = vars(parser.parse_args(argv))
    with flags.clear_errors():
        from rahf.applications.selection import WeightedScores
        from rahf.reports import contact_sheet

        args["sheet"] = not args.pop("no_sheet")
        args["sort_by"] = WeightedScores.parse(args["sort_by"])
        print(contact_sheet.write_ranking(contact_sheet.RankRequest(**args)))


if __name__ == "__main__":
    main()
