"""Do choices between two images help where few images have rich labels?

    python -m rahf.bin.train --config=configs/scenes_pairs.py:pairs --workdir=W

The argument is the arm, which launch/pairs.sh trains with three seeds each:

    rich       1,000 scenes with all seven kinds of feedback, alone
    pairs      these, and 20,000 pairs of other scenes, of which one simulated rater each
               says which looks better overall (docs/preferences.md)
    control    the same, with the images of each pair changed about by a coin, so that the
               choices say nothing

A step has 32 rows with rich labels in every arm, and 16 pairs besides in the last two.
Nothing has been measured with it yet, and neither the weight of the loss nor its scale has
been tuned.
"""

from configs import scenes_demo

ARMS = ("rich", "pairs", "control")


def get_config(arg: str = "pairs"):
    """Returns the config; `arg` is the arm."""
    if (arg or "pairs") not in ARMS:
        raise ValueError(f"{arg!r} is unknown; options: {', '.join(ARMS)}")
    c = scenes_demo.get_config()
    c.training_steps = 700
    c.input.scenes.train_examples = 1000
    c.input.cache = 500
    # Each rich label is seen 22 times.
    c.input.augment.flip = True
    c.model.dropout = 0.1
    c.eval.every_steps = 175
    c.checkpoint.every_steps = 175
    c.checkpoint.best_metric = "overall/plcc"
    if arg != "rich":
        _add_pairs(c, "random" if arg == "control" else "raters")
    return c


def _add_pairs(c, choices: str) -> None:
    c.eval.task = c.task.name  # what all arms are measured by
    c.task.name = "pairs_of_scenes_multihead"
    c.task.targets = (*c.task.targets, "overall_preference")
    c.input.batch_size *= 2  # half of it rows of pairs
    # `raters` vote on each pair; `train_choices` are theirs, or "random".
    c.input.pairs_of_scenes = {"train_examples": 20_000, "train_choices": choices}
    c.input.pairs_of_scenes.raters = 1
    c.preference = {
        # By how much the log-odds of a choice rise with the difference of the scores;
        # 10 is what the disagreement of raters amounts to (rahf.training.losses).
        "scale": 10.0,
        # By how much the chosen image's score must be higher, beside the pair's own.
        "margin": 0.0,
    }
    c.loss_weights.overall_preference = 0.5
