"""A config of a CLIP that trains on scenes in seconds."""

from configs import clip_scenes


def config(arg: str = ""):
    """`configs/clip_scenes.py`, shrunk; `arg` is its argument."""
    c = clip_scenes.get_config(arg)
    c.training_steps = 2
    c.input.batch_size = 8
    c.input.scenes.train_examples = 100
    c.model.patch_size, c.model.embed_dim = 32, 16
    for tower in (c.model.image, c.model.text):
        tower.update(width=16, depth=1, mlp_dim=16, num_heads=2)
    c.schedule.update(name="constant", warmup_steps=1)
    c.eval.update(every_steps=2, batch_size=8, examples=6)
    c.checkpoint.every_steps = 2
    c.log.every_steps = 1
    return c
