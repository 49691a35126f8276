"""Scores images by a CLIP of yours: CLIPScore, PickScore or HPSv2.

    python -m rahf.bin.predict_clip --weights=ViT-B-32.pt --prompt="a red cat" \\
        --tokenizer=bpe_simple_vocab_16e6.txt.gz cat.png --output=DIR
    python -m rahf.bin.predict_clip --weights=PickScore_v1 --score=pickscore \\
        --tokenizer=CLIP-ViT-H-14-laion2B-s32B-b79K prompts.jsonl --output=DIR

DIR is that of rahf.bin.predict, and serves select, rank, masks and eval_preferences
likewise: the score has the name of --score, the heatmap "misalignment" is drawn from
CLIP's gradients, and words are judged by gradient times attention. Weights are OpenAI's
.pt, Hugging Face's folders, or open_clip's files with a ViT; no code in them is run. The
same command resumes an interrupted run.
"""

import sys
from collections.abc import Sequence

from rahf.bin import flags, predict_flags

_SCORES = "clipscore", "pickscore", "hpsv2"
_MAPS = "pixels", "grad_cam", "grad_eclip", "relevance"


def main(argv: Sequence[str] | None = None) -> None:
    parser = flags.new_parser("predict_clip", __doc__)
    add = parser.add_argument
    predict_flags.add_sources(parser)
    add("--weights", required=True, help="a .pt or .safetensors file, or a folder")
    beside = "OpenAI's .txt.gz, or a folder of vocab.json and merges.txt (as --weights)"
    add("--tokenizer", default="", help=beside)
    add("--score", choices=_SCORES, default="clipscore", help="formula (%(default)s)")
    add("--map", choices=_MAPS, default="pixels", help="gradient map (%(default)s)")
    read = "misaligned is what speaks least for the match, against, most (%(default)s)"
    add("--reading", choices=("low", "negative", "high"), default="high", help=read)
    add("--score_only", action="store_true", help="neither heatmaps nor words")
    gelu = "where the weights do not tell (as the score was published)"
    add("--activation", choices=("quick_gelu", "gelu"), default="", help=gelu)
    add("--output", required=True, metavar="DIR", help="folder to write to")
    predict_flags.add_options(parser)
    args = vars(parser.parse_args(argv))
    with flags.clear_errors():
        from rahf.inference import clip_folder  # only now: `--help` needs no JAX
        from rahf.inference.clip_predictor import ClipOptions, MapChoice

        args["sources"] = predict_flags.take_sources(args)
        args["options"] = predict_flags.take_options(args)
        choice = MapChoice(args.pop("map"), args.pop("reading"))
        names = ("tokenizer", "score", "activation")
        own = {name: args.pop(name) for name in names}
        clip = ClipOptions(choice=choice, **own)
        request = clip_folder.ClipRequest(**args, clip=clip)
        counts, report = clip_folder.predict_clip_folder(request)
    print(report.encode("utf-8", "backslashreplace").decode())
    if counts.exit_code:
        sys.exit(counts.exit_code)


if __name__ == "__main__":
    main()
