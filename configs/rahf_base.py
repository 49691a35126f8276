"""The paper's model: ViT-B/16 at 384 pixels and T5-base, batch 256, 20,000 steps.

    python -m rahf.bin.train --config=configs/rahf_base.py --workdir=W

Section 4 and the appendix of the paper: AdamW at 0.015, augmented prompts. The paper
names no schedule; linear warm-up and reciprocal square root are those of
re-implementations. The data is `scenes`. `--config=configs/rahf_base.py:richhf` trains
on RichHF-18K, as rahf.bin.build_richhf makes it, with T5's vocabulary:

    python -m rahf.bin.train --config=configs/rahf_base.py:richhf --workdir=W \
        --config.input.richhf.data_dir=DIR --config.input.vocabulary=spiece.model

Not trained here: it needs a TPU slice or a GPU node. 0.015 is used as a relative step,
as in T5X's Adafactor: as an absolute one it would be 750 times the first author's 2e-5.
Try lower values first when you fine-tune from published weights.
"""

import ml_collections

from configs import scenes


def get_config(arg: str = ""):
    """Returns the config; `arg` is "" for scenes or "richhf"."""
    c = scenes.get_config()
    c.training_steps = 20_000

    # The heads are new when the run starts from published trunks.
    c.init_expect_missing = (
        "visual_token_projection/*",
        "heatmap_predictor_*",
        "score_predictor_*",
    )

    c.task.weights = {}

    c.input.batch_size = 256
    c.input.image_size = 384
    c.input.text_length = 128
    c.input.target_length = 128
    c.input.workers = 16
    c.input.cache = 0

    c.model.dtype = "bfloat16"
    c.model.remat = True
    c.model.decoder_attends = "all"  # as PaLI does
    c.model.word_presence = False
    # AugReg's values; a ViT from Hugging Face needs True and 1e-12.
    c.model.vit.update(exact_gelu=False, norm_epsilon=1e-6)
    c.model.vit.stem = "patch"
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
    # "paper" for both is the published design, at many times the cost.
    c.model.heatmap_head.name = "light"
    c.model.score_head.name = "paper"

    c.optimizer.b2 = 0.999
    c.schedule.update(name="rsqrt", peak=0.015, warmup_steps=2000)
    # The paper does not give its weights; these are the first author's release's.
    c.loss_weights = {name: 1.0 for name in c.task.targets}
    c.eval.examples = 0
    c.log.every_steps = 100
    return on_data(c, arg)


def on_data(c, name: str):
    """Returns the config on the named data: "" for scenes, or "richhf"."""
    if name == "richhf":
        c.task.name = c.task.name.replace("scenes", "richhf")
        c.task.modules = ("tasks.richhf",)
        c.input.richhf = ml_collections.ConfigDict({"data_dir": ""})  # TFDS's default
        c.input.vocabulary = "spiece.model"  # T5's, which rahf does not ship
    elif name:
        raise ValueError(f"--config=...:{name} is unknown; options: richhf")
    return c
