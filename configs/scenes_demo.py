"""The demo: all seven targets in minutes on a laptop.

    bash launch/local.sh

Multi-head, because one pass over an image then teaches all seven targets, on scenes of
one or two large objects with conspicuous flaws.
"""

from configs import scenes_multihead


def get_config(arg: str = ""):
    """Returns the config; it takes no `arg`."""
    c = scenes_multihead.get_config(arg)
    c.training_steps = 500
    c.input.batch_size = 32
    c.input.cache = 0  # few scenes are seen twice
    c.model.t5.encoder_layers = 3
    # Learns more in these steps than AdamW in 1,200 (docs/results_log.md).
    c.optimizer.name = "muon"
    c.schedule.warmup_steps = 75
    c.eval.every_steps = 250
    c.checkpoint.every_steps = 250
    c.log.every_steps = 20
    return c
