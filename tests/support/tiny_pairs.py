"""The arms of configs/scenes_pairs.py, tiny and of one score, as a file for binaries."""

from configs import scenes_pairs
from tests.support import tiny


def get_config(arg: str = "pairs"):
    c, whole = tiny.config(), scenes_pairs.get_config(arg)
    c.task.name = c.eval.task = "scenes_overall"
    c.task.targets = ("overall",)
    c.input.image_size = 64  # the smallest scene
    c.input.scenes = {"difficulty": "simple", "train_examples": 6}
    c.training_steps = 2
    c.eval.every_steps = 2
    c.checkpoint.best_metric = whole.checkpoint.best_metric
    if arg != "rich":
        c.task.name += "+pairs_of_scenes"
        c.task.targets += ("overall_preference",)
        c.input.pairs_of_scenes = whole.input.pairs_of_scenes
        c.preference = whole.preference
        c.loss_weights.overall_preference = whole.loss_weights.overall_preference
    return c
