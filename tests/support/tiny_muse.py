"""The config by which a tiny generator is trained on, as a file for the binaries."""

from configs import muse_scenes


def get_config(arg: str = ""):
    return shrink(muse_scenes.get_config(arg or "folder"), training_steps=2)


def shrink(c, **fields):
    """Makes the model and the run of a config small."""
    c.input.batch_size = 8  # the devices of the tests
    c.model.tokenizer.update(levels=(4, 4), stride=8, width=16, blocks=1)
    c.model.t5.update(embed_dim=32, head_dim=16, num_heads=2, mlp_dim=32)
    c.model.t5.encoder_layers = 1
    c.input.scenes.train_examples = 64
    c.input.cache = 1
    c.training_steps = 3
    c.eval.update(examples=6, batch_size=4, every_steps=3)
    c.log.every_steps = 1
    c.update(fields)
    return c
