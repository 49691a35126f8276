"""Checks pictures of scenes against their prompts by plain image processing.

    python -m rahf.bin.check_pictures judged_base judged_tuned
    python -m rahf.bin.check_pictures --scenes=dev

No trained model has a part in it: is there a region of each colour that the prompt states,
and are there as many? What cannot be told is undecidable. Of each folder of predictions it
prints the share of decided pictures that show their prompts, the paired difference to the
first folder, and how well a score of the predictions (--by) tells "yes" from "no", which
says whether a judge can be believed on a generator's images. --scenes measures the check
itself on scenes, whose truth is known.
"""

from collections.abc import Sequence

from rahf.bin import flags


def main(argv: Sequence[str] | None = None) -> None:
    parser = flags.new_parser("check_pictures", __doc__)
    add = parser.add_argument
    add("predictions", nargs="*", help="of images of scenes' prompts; files, folders")
    add("--by", default="alignment", metavar="SCORE", help="score (%(default)s)")
    add("--scenes", metavar="SPLIT", help="measure the check on train, dev or test")
    text = "of those scenes: simple or full (%(default)s)"
    add("--difficulty", default="simple", help=text)
    share = flags.finite(0.01, 0.999)
    add("--level", type=share, default=0.95, help="of intervals (%(default)s)")
    number = flags.at_least
    add("--resamples", type=number(10), default=2000, help="(%(default)s)")
    add("--seed", type=number(0), default=0, help="of the resamples (%(default)s)")
    add("--output", metavar="FILE", help="JSON file to write the numbers to")
    args = vars(parser.parse_intermixed_args(argv))
    with flags.clear_errors():
        from rahf.evaluation.checked_pictures import CheckRequest, write_check

        output = args.pop("output")
        print(write_check(CheckRequest(**args), output))


if __name__ == "__main__":
    main()
