"""A score that learns from people's choices between two images alone.

    python -m rahf.bin.train --config=configs/pick_a_pic_pairs.py --workdir=W \\
        --config.input.pick_a_pic.path=pickapic/data

Pairs are Parquet files in the form of Pick-a-Pic v1 (docs/preferences.md). The part after
the config's first colon is the score that learns, by default `overall`. The model is that
of configs/rated_images.py: ImageNet's eyes where the extra `pretrained` is installed, else
a small one from scratch; to choose, write `overall,pretrained` or `overall,scratch`. It
has not been trained on Pick-a-Pic here.
"""

from configs import rated_images


def get_config(arg: str = ""):
    """Returns the config; `arg` is the score, and perhaps the model's kind."""
    score, _, kind = (arg or "overall").partition(",")
    if score not in rated_images.SCORES:
        raise ValueError(
            f"{score!r} is unknown; options: {', '.join(rated_images.SCORES)}"
        )
    c = rated_images.get_config(kind)
    del c.input.rated_images
    c.task.name = "pick_a_pic_pairs" + f"_{score}" * (score != "overall")
    c.task.targets = (score, f"{score}_preference")
    c.task.modules = ()
    c.input.pick_a_pic = {
        "path": "",  # a .parquet file, or a folder of them
        "train": "train",  # what the names of each split's files begin with
        "dev": "validation_unique",
        "test": "test_unique",
        "dev_share": 0.0,  # of the training prompts, in place of files for dev; 0 = none
        "margin": "",  # the column of the pairs' margins, as rahf.bin.select writes it
    }
    c.input.batch_size = 32  # 16 pairs
    c.preference = {"scale": 10.0, "margin": 0.0}
    c.checkpoint.best_metric = f"{score}_preference/accuracy"
    return c
