"""Any rated images: from a table of opinion scores to a model that predicts them.

    python -m rahf.bin.train --workdir=W \\
        --config="configs/rated_images.py:mos_quality:1-5->overall" \\
        --config.input.rated_images.path=ratings/ratings.csv

The part after the config's first colon maps columns to scores, with the scale of each;
separate several with commas (docs/own_data.md). The model is that of configs/scenes_demo.py
without word presence, and can start from a run of it; a few hundred images take minutes
on two cores. For tens of thousands use a larger model.
"""

from configs import scenes_demo

SCORES = ("plausibility", "alignment", "aesthetics", "overall")


def get_config(arg: str = ""):
    """Returns the config; `arg` maps columns: `column:worst-best->score,...`."""
    c = scenes_demo.get_config()
    c.training_steps = 200

    mapped = [part.rpartition("->")[2].strip() for part in arg.split(",") if part]
    c.task.name = "rated_images_multihead"
    c.task.targets = tuple(mapped) or SCORES
    c.task.modules = ("tasks.rated_images",)

    c.input.batch_size = 16
    c.input.text_length = 80
    c.input.target_length = 80
    c.input.cache = 100  # megabytes of decoded and resized images
    # A few hundred images are memorised in as many steps.
    c.input.augment.update(crop=0.8, flip=True, colour=0.2)
    del c.input.scenes
    c.input.rated_images = {
        "path": "",  # a .csv, .tsv or .parquet file, or a folder of .parquet files
        "targets": arg,
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

    c.model.word_presence = False  # there are no word labels to learn it from
    c.model.dropout = 0.1

    c.schedule.update(peak=0.005, warmup_steps=20)
    del c.loss_weights
    c.loss_weights = {}

    c.eval.every_steps = 100
    c.eval.examples = 0
    c.checkpoint.every_steps = 100
    c.checkpoint.best_metric = f"{c.task.targets[0]}/srcc"
    c.log.every_steps = 10
    return c
