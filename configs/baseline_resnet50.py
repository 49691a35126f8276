"""The paper's ResNet-50 baseline: it sees the image alone, with a head for each score
and each heatmap.

    python -m rahf.bin.train --config=configs/baseline_resnet50.py:scenes --workdir=W

trains from scratch on `scenes`, batch norm by the batch's statistics.

    python -m rahf.bin.train --config=configs/baseline_resnet50.py:richhf --workdir=W \\
        --config.input.richhf.data_dir=DIR --config.init_stem=resnet50.pth

fine-tunes published weights (docs/weights.md) on RichHF-18K at 384 pixels, statistics
frozen. The paper gives no more than that ResNet-50 is fine-tuned; it does so for each
score by itself, here all share the network.

Neither has been trained here yet, so its numbers of steps and rates are guesses;
`:richhf` needs a GPU.

Prompts are not read, so there are no misaligned words, and alignment and the misalignment
heatmap can only be guessed from the image. The feature maps at strides 8, 16 and 32 are
brought to the grid of patches and joined linearly; no transformer follows.
"""

from configs import rahf_base, scenes


def get_config(arg: str = ""):
    """Returns the config; `arg` is "scenes", the default, or "richhf"."""
    c = scenes.get_config()
    c.training_steps = 2000
    c.init_stem = ""

    c.task.name = "scenes_without_words"
    c.task.targets = c.task.targets[:-1]
    c.task.weights = {}

    c.input.prompts = "none"
    c.input.text_length = 8
    c.input.target_length = 8

    c.model.variant = "image"
    c.model.word_presence = False
    c.model.vit.update(stem="resnet50", width=256, depth=0, patch_size=8)
    c.model.vit.class_token = False
    c.model.vit.stem_statistics = "trained"
    c.model.t5.embed_dim = 256  # the width of the heads; there is no T5

    del c.loss_weights.misaligned_words
    c.schedule.update(peak=0.01, warmup_steps=100)
    c.eval.every_steps = 500
    c.checkpoint.every_steps = 500
    if arg == "richhf":
        c.training_steps = 10_000
        c.init_stem = "resnet50.pth"
        c.input.update(batch_size=64, image_size=384, workers=16, cache=0)
        c.input.augment.flip = True
        c.model.dtype = "bfloat16"
        c.model.vit.update(patch_size=16, stem_statistics="frozen")
        c.schedule.update(peak=0.005, warmup_steps=500)
        c.optimizer.stem_rate = 0.4
        c.eval.examples = 0
        rahf_base.on_data(c, "richhf")
        c.input.vocabulary = "scenes"  # of which nothing is read
    elif arg not in ("", "scenes"):
        raise ValueError(f"{arg!r} is unknown; options: scenes, richhf")
    return c
