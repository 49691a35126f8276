"""Captioning pre-training, mixed with the seven targets as the paper mixes WebLI in.

    python -m rahf.bin.train --config=configs/pretrain_captioning.py --workdir=W

The model is that of configs/scenes.py; `--config.task.name=scenes_captioning`
trains on captions alone.
"""

from configs import scenes


def get_config(arg: str = ""):
    """The config; `arg` is not used."""
    c = scenes.get_config(arg)
    c.task.name = "scenes_seven_captioning"
    c.task.targets = (*scenes.TARGETS, "caption")
    return c
