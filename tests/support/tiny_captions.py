"""The tiny model on captions of shards: a config file for the binaries."""

import ml_collections

from tests.support import tiny


def get_config(arg: str = ""):
    """The config; `arg` is not used. `config.input.captions` lacks its splits."""
    del arg
    c = tiny.config()
    c.task.name, c.task.targets = "captions", ("caption",)
    c.loss_weights = {}
    c.training_steps, c.eval.examples = 2, 0
    c.checkpoint.keep_best = 0  # of no metric of captions is higher better
    c.input.bad_records, c.input.bad_share = "skip", 0.5
    c.input.captions = ml_collections.ConfigDict(
        {"train": "", "dev": "", "window": 8, "open_shards": 2}
    )
    return c
