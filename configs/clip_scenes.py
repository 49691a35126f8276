"""A small CLIP of scenes' own, trained contrastively; what RAHF is measured against.

    python -m rahf.bin.train --config=configs/clip_scenes.py --workdir=runs/clip_scenes

It learns from scenes and their prompts alone, and sees no feedback. Its cosine is
measured as alignment, its gradient map as misalignment, and its text side on words
(docs/baselines.md). On captions of your own instead, it is measured by retrieval:

    python -m rahf.bin.train --config=configs/clip_scenes.py:captions \
        --config.input.captions.train='pictures/{00000..00099}.tar' \
        --config.input.captions.dev=pictures/00100.tar --workdir=W

Fine-tuned for a score, as the paper does for each:

    python -m rahf.bin.train --config=configs/clip_scenes.py:plausibility \
        --config.init_from=runs/clip_scenes --workdir=runs/clip_plausibility
"""

import ml_collections

from configs import pretrain_captioning, scenes

_SCORES = ("plausibility", "alignment", "aesthetics", "overall")
_MEASURED = ("alignment", "misalignment", "misaligned_words")


def get_config(arg: str = ""):
    """Returns the config; `arg` is "" (scenes), "captions" or a score."""
    if arg not in ("", "captions", *_SCORES):
        raise ValueError(f"{arg!r} is unknown; options: captions, {', '.join(_SCORES)}")
    captions = arg == "captions"
    c = pretrain_captioning.get_config(arg) if captions else scenes.get_config()
    c.learner = "clip"
    c.training_steps = 2000
    c.init_expect_missing = ()
    c.task.weights = ml_collections.ConfigDict()
    c.task.modules = ("rahf.training.contrastive",)
    c.task.name = "captions" if captions else "scenes_captioning"
    c.task.targets = ("caption",) if captions else ("caption", *_MEASURED)
    c.eval.task = "" if captions else "+".join(f"scenes_{name}" for name in _MEASURED)
    c.checkpoint.best_metric = (
        "retrieval/image_to_text" if captions else "alignment/plcc"
    )

    c.input.batch_size = 128
    c.input.text_length = 24
    c.model = m = ml_collections.ConfigDict()
    m.variant = "augmented"  # one target is measured at a time
    m.dtype = "float32"
    m.patch_size = 8
    m.embed_dim = 128
    m.vocab_size = 512
    m.activation = "quick_gelu"
    m.image = ml_collections.ConfigDict(
        {"width": 128, "depth": 4, "mlp_dim": 256, "num_heads": 4}
    )
    m.text = ml_collections.ConfigDict(
        {"width": 128, "depth": 3, "mlp_dim": 256, "num_heads": 4}
    )
    # The heatmap of misalignment (rahf/baselines/clip_maps.py).
    m.map = ml_collections.ConfigDict({"definition": "pixels", "reading": "high"})

    c.optimizer.relative = False
    c.optimizer.weight_decay = 0.1
    c.schedule.peak = 1e-3
    c.schedule.warmup_steps = 200
    c.eval.every_steps = 500
    c.checkpoint.every_steps = 500
    if arg in _SCORES:
        c.task.name, c.task.targets, c.eval.task = f"scenes_{arg}", (arg,), ""
        c.checkpoint.best_metric = f"{arg}/plcc"
        c.schedule.peak = 3e-4
    return c
