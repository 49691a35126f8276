"""Configs of older versions read as if they were written today."""

import numpy as np

from configs import scenes_multihead
from rahf.checkpoints import old_names
from rahf.input import registry
from rahf.input.loader import make_train_input


def test_today_s_names():
    old = {
        "seed": 0,
        "model": {"word_evidence": True, "vit": {"stem": "patch"}},
        "input": {"loader": "procedural", "image_size": 64},
        "task": {
            "name": "captions+scenes_multihead_shown_words",
            "targets": ["overall", "shown_words"],
            "weights": {"scenes_shown_words": 0.5, "captions": 1.0},
        },
        "loss_weights": {"overall": 1.0, "shown_words": 0.2},
        "checkpoint": {"best_metric": "shown_words/average_precision_mean"},
    }
    new = {
        "seed": 0,
        "model": {"word_presence": True, "vit": {"stem": "patch"}},
        "input": {"loader": "grain", "image_size": 64},
        "task": {
            "name": "captions+scenes_multihead_word_presence",
            "targets": ["overall", "word_presence"],
            "weights": {"scenes_word_presence": 0.5, "captions": 1.0},
        },
        "loss_weights": {"overall": 1.0, "word_presence": 0.2},
        "checkpoint": {"best_metric": "word_presence/average_precision_mean"},
    }
    assert old_names.upgrade(old) == new
    assert old_names.upgrade(new) == new
    mine = {"model": {}, "input": {"loader": "seqio"}, "task": {"name": "mine_shown"}}
    assert old_names.upgrade(mine) == mine


def test_a_task_that_was_renamed_keeps_the_order_of_its_examples():
    """Else a run that goes on would see other examples than it would have seen."""
    config = scenes_multihead.get_config()
    config.input.update(batch_size=2, image_size=64)
    [task] = registry.find(config.task.name)
    assert task.name == "scenes_multihead_word_presence"
    old = "scenes_multihead_shown_words"
    registry.TASKS[old] = registry.Task(old, task.targets, task.records, augment=False)
    try:
        first = [next(make_train_input(config))["inputs"]]
        config.task.name = old
        first.append(next(make_train_input(config))["inputs"])
    finally:
        del registry.TASKS[old]
    np.testing.assert_array_equal(*first)
