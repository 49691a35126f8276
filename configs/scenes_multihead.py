"""The reference run's twin: one head per target, all seven in every example.

    python -m rahf.bin.train --config=configs/scenes_multihead.py \
        --workdir=runs/scenes_multihead
"""

from configs import scenes


def get_config(arg: str = ""):
    """The config; `arg` is not used."""
    c = scenes.get_config(arg)
    c.task.name = "scenes_multihead"
    c.model.variant = "multihead"
    return c
