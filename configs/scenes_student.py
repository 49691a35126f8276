"""A student of the reference run: a quarter of its operations, all seven targets.

    python -m rahf.bin.distill --config=configs/scenes_student.py \
        --teacher=runs/scenes_multihead --workdir=runs/scenes_student

Half the width of `scenes_multihead.py` and an encoder layer less: 37.3 MFLOP an image
against 149.8 in prediction. It takes more steps than its teacher, which cost less in all,
and twice the weight on aesthetics and heatmaps, which a narrow stem learns last.
docs/distill.md has what it keeps of its teacher.
"""

from configs import scenes_multihead


def get_config(arg: str = ""):
    """Returns the config; it takes no `arg`."""
    c = scenes_multihead.get_config(arg)
    c.training_steps = 14_000
    c.loss_weights.update(aesthetics=8.0, implausibility=40.0, misalignment=40.0)
    m = c.model
    m.vit.width, m.vit.mlp_dim, m.vit.num_heads = 64, 128, 2
    m.t5.embed_dim, m.t5.mlp_dim, m.t5.num_heads = 64, 128, 2
    m.t5.encoder_layers = 3
    m.score_head.width = 48
    m.heatmap_head.width = 96
    return c
