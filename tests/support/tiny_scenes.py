"""The tiny config as a file for the binaries."""

from tests.support import tiny


def get_config(arg: str = ""):
    c = tiny.config()
    c.input.image_size = 64  # the smallest scene
    c.input.scenes.train_examples = 200
    c.checkpoint.best_metric = "plausibility/srcc"
    return c
