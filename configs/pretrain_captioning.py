"""Captioning pre-training mixed with the seven targets, as the paper mixes in WebLI.

    python -m rahf.bin.train --config=configs/pretrain_captioning.py --workdir=W

learns the prompts of scenes, on a laptop. To learn captions of your own instead
(docs/own_data.md):

    python -m rahf.bin.train --config=configs/pretrain_captioning.py:captions \
        --config.input.captions.train='gs://bucket/{00000..00999}.tar' \
        --config.input.captions.dev=gs://bucket/01000.tar --workdir=W

`:base` does the same with the model of configs/rahf_base.py. A later run starts from
the result with `--config.init_from=W`.
"""

import ml_collections

from configs import rahf_base, scenes


def get_config(arg: str = ""):
    """Returns the config; `arg` is "" (scenes), "captions" or "base"."""
    if arg not in ("", "captions", "base"):
        raise ValueError(f"{arg!r} is unknown; options: captions, base")
    c = (rahf_base if arg == "base" else scenes).get_config()
    c.task.targets = (*scenes.TARGETS, "caption")
    c.task.name = "scenes_seven+captions" if arg else "scenes_seven_captioning"
    # How often each task comes up; 1 if not given.
    c.task.weights = ml_collections.ConfigDict()
    if arg:
        c.task.weights.captions = 7.0  # as often as the seven together
        c.task.modules = ("tasks.scenes", "tasks.captions")

    c.input.captions = ml_collections.ConfigDict()
    c.input.captions.train = ""
    c.input.captions.dev = ""
    c.input.captions.test = ""
    c.input.captions.window = 1000  # samples shuffled at a time
    c.input.captions.open_shards = 4  # shards that a reader interleaves
    # For tfds:NAME: its folder, and its features; nested ones are joined by /.
    c.input.captions.data_dir = ""
    c.input.captions.image = "image"
    c.input.captions.caption = "caption"
    return c
