"""The demo: all seven targets in minutes on a laptop.

    bash launch/local.sh

Multi-head, because one pass over an image then teaches all seven targets, and
scenes of one or two large objects whose flaws catch the eye. All examples have feedback:
captions, as in configs/scenes_multihead.py, would teach words and alignment much better
and leave too little time for the rest (docs/results.md).
"""

from configs import scenes, scenes_multihead


def get_config(arg: str = ""):
    """The config; `arg` is not used."""
    c = scenes_multihead.get_config(arg)
    c.training_steps = 1600
    c.task.name = "scenes_multihead"
    c.task.targets = scenes.TARGETS
    del c.loss_weights.shown_words
    c.input.batch_size = 32
    c.input.cache = 0  # few scenes are seen twice
    c.model.word_evidence = False
    c.model.t5.encoder_layers = 3
    c.schedule.warmup_steps = 150
    c.eval.every_steps = 800
    c.checkpoint.every_steps = 800
    c.log.every_steps = 20
    return c
