"""The paper's model: ViT-B/16 at 384 pixels and T5-base, batch 256, 20,000 steps.

    python -m rahf.bin.train --config=configs/rahf_base.py --workdir=W

Section 4 and the appendix of the paper: AdamW at 0.015, augmented prompts. Linear
warm-up and reciprocal square root are those of re-implementations; the paper names
no schedule. The data is `scenes` until a task on real images is registered:
`--config.task.name` and `--config.task.modules` name another.

Not trained here: it wants a TPU slice or a GPU node. 0.015 is taken as a relative
step, as T5X's Adafactor takes its rates: as an absolute one it is 750 times the first
author's 2e-5. Try lower values first when you fine-tune from published weights.
"""

from configs import scenes


def get_config(arg: str = ""):
    """The config; `arg` is not used."""
    c = scenes.get_config(arg)
    c.training_steps = 20_000

    c.input.batch_size = 256
    c.input.image_size = 384
    c.input.text_length = 128
    c.input.target_length = 128
    c.input.workers = 16

    c.model.dtype = "bfloat16"
    c.model.remat = True
    c.model.decoder_attends = "all"  # as PaLI does
    c.model.vit.update(patch_size=16, width=768, depth=12, mlp_dim=3072, num_heads=12)
    c.model.t5.update(
        vocab_size=32_128,
        gated=False,
        embed_dim=768,
        head_dim=64,
        num_heads=12,
        mlp_dim=3072,
        encoder_layers=12,
        decoder_layers=12,
    )
    # "paper" for both is the published stack, at many times the cost.
    c.model.heatmap_head.name = "light"
    c.model.score_head.name = "paper"

    c.optimizer.b2 = 0.999
    c.schedule.update(name="rsqrt", peak=0.015, warmup_steps=2000)
    c.loss_weights.update(implausibility=1.0, misalignment=1.0)
    c.eval.examples = 0
    c.log.every_steps = 100
    return c
