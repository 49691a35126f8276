"""A text-to-image generator of scenes, flawed as generators are; two commands.

    python -m rahf.bin.train --config=configs/muse_scenes.py:tokenizer \
        --workdir=runs/muse_tokenizer
    python -m rahf.bin.train --config=configs/muse_scenes.py --workdir=runs/muse \
        --config.init_from=runs/muse_tokenizer

and one to go on from it with images of your own, chosen ones say:

    python -m rahf.bin.train --config=configs/muse_scenes.py:folder --workdir=runs/tuned \
        --config.init_from=runs/muse --config.input.captions.train=chosen/images

It learns from the scenes as they come: damaged, and not always what their prompts ask
for. docs/generators.md has times and samples.
"""

import ml_collections

from configs import scenes


def get_config(arg: str = ""):
    """Returns the config of the transformer; `arg` is "", "tokenizer" or "folder"."""
    if arg not in ("", "tokenizer", "folder"):
        raise ValueError(f"{arg!r} is unknown; options: tokenizer, folder")
    c = scenes.get_config()
    c.learner = "muse"
    c.training_steps = 7000
    c.init_expect_missing = ("transformer/*",)

    # Of a task's records, the picture and the prompt are used.
    c.task.name = "pictures_of_scenes"
    c.task.targets = ("overall",)
    c.task.weights = {}
    c.task.modules = ("rahf.generators.pictures", "rahf.generators.muse.learner")

    c.input.batch_size = 32
    c.input.text_length = 24
    c.input.target_length = 1

    c.model = m = ml_collections.ConfigDict()
    m.dtype = "float32"
    m.remat = False
    m.dropout = 0.0
    m.tokenizer = ml_collections.ConfigDict(
        {"levels": (5, 5, 5), "stride": 4, "width": 64, "blocks": 2}
    )
    m.patch = 2  # tokens along a side of a position of the transformer
    m.token_width = 64  # of the convolutions around it
    m.token_blocks = 1
    m.t5 = ml_collections.ConfigDict()
    m.t5.vocab_size = 512
    m.t5.gated = False
    m.t5.embed_dim = 128
    m.t5.head_dim = 32
    m.t5.num_heads = 4
    m.t5.mlp_dim = 512
    m.t5.encoder_layers = 4
    m.prompt_dropout = 0.1  # of the examples: for guidance
    m.label_smoothing = 0.0  # what is spread over all codes is sampled, too: specks
    m.rectangles = 0.15  # of the masks: for inpainting
    m.wrong_tokens = 0.05  # of those that are not masked

    c.optimizer.name = "muon"
    c.schedule.peak = 0.01
    c.schedule.warmup_steps = 200

    c.eval.examples = 256
    c.eval.every_steps = 1000
    c.checkpoint.every_steps = 1000
    c.checkpoint.best_metric = "tokens/nll_50"
    c.checkpoint.keep_best = 0
    if arg == "tokenizer":
        c.learner = "muse_tokenizer"
        c.training_steps = 1200
        c.init_expect_missing = ()
        c.optimizer.name = "adamw"
        c.optimizer.relative = False
        c.optimizer.b2 = 0.99
        c.schedule.peak = 2e-3
        c.checkpoint.best_metric = "image/psnr"
    if arg == "folder":
        c.task.name = "pictures_of_folder"
        c.task.targets = ("loss_weights",)
        c.input.captions = ml_collections.ConfigDict({"train": "", "dev": ""})
        c.init_expect_missing = ()
        c.training_steps = 200  # of a round of rahf.bin.improve
        c.schedule.name = "constant"
        c.schedule.peak = 1e-3
        c.schedule.warmup_steps = 50
        c.eval.split = "train"
        c.eval.every_steps = c.checkpoint.every_steps = 200
    return c
