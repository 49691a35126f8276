"""Configs of older versions read as if they were written today."""

from rahf.checkpoints import old_names


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
