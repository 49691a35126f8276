"""The reference run's twin: one head per target, all seven in every example.

Every example also teaches which pieces of its prompt the image shows; without that,
words are hardly learned at all (docs/results_log.md).

    python -m rahf.bin.train --config=configs/scenes_multihead.py \
        --workdir=runs/scenes_multihead
"""

from configs import scenes


def get_config(arg: str = ""):
    """Returns the config; it takes no `arg`."""
    c = scenes.get_config(arg)
    c.training_steps = 6500
    c.input.batch_size = 48
    c.init_expect_missing = ()
    c.task.name = "scenes_multihead_word_presence"
    c.task.targets = (*c.task.targets, "word_presence")
    c.task.weights = {}
    c.model.variant = "multihead"
    c.input.text_length = 24
    c.schedule.peak = 0.014
    c.loss_weights.update(misaligned_words=3.0, alignment=6.0, word_presence=0.2)
    return c
