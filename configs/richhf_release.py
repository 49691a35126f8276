"""The first author's release: ViT-L/16 at 384 pixels, T5-base, seven heads.

    python -m rahf.bin.import_weights --config=configs/richhf_release.py --output=W \
        --richhf=rahf_model.pt --config.input.vocabulary=spiece.model

642,612,710 parameters, including the ViT pooler's 1,049,600, which nothing reads and
which are left out here. Every layer, the text and the decoding are the release's:
prompts are reduced to their words, and the decoder generates freely, at most 100
tokens. Unlike there, padding is not attended to. Training is the release's: all
parameters, AdamW at 2e-5, batch 8, float32, no augmentation.

`--config=configs/richhf_release.py:richhf` trains and evaluates on RichHF-18K, as
rahf.bin.build_richhf makes it (--config.input.richhf.data_dir=DIR), instead of scenes.
"""

from configs import rahf_base_multihead


def get_config(arg: str = ""):
    """Returns the config; `arg` is "" for scenes or "richhf"."""
    c = rahf_base_multihead.get_config(arg)
    c.training_steps = 59_000  # 30 epochs of 15,810 at 8

    c.input.batch_size = 8
    c.input.target_length = 100
    c.input.prompts = "words"

    c.model.dtype = "float32"
    c.model.remat = False
    c.model.decoder_attends = "prompt"
    c.model.decoding = "free"
    # Hugging Face's ViT: the error function's GELU, and a smaller epsilon.
    c.model.vit.update(width=1024, depth=24, mlp_dim=4096, num_heads=16)
    c.model.vit.update(exact_gelu=True, norm_epsilon=1e-12)
    c.model.heatmap_head.name = "paper"
    c.model.score_head.name = "paper"

    c.optimizer.relative = False
    c.optimizer.weight_decay = 2e-3
    c.schedule.update(name="cosine", peak=2e-5, warmup_steps=0, final_fraction=0.5)
    c.loss_weights = {name: 1.0 for name in c.task.targets}
    return c
