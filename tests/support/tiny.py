"""A config that compiles and runs in seconds, and batches of noise for it."""

import contextlib

import flax.linen as nn
import jax
import numpy as np

from configs import scenes
from rahf import targets
from rahf.checkpoints import workdir as workdirs
from rahf.checkpoints.checkpointer import Checkpointer
from rahf.models.batch import example_batch
from rahf.models.rahf import make_model
from rahf.targets import Kind


def config(variant: str = "multihead"):
    """`configs/scenes.py`, shrunk."""
    c = scenes.get_config()
    c.training_steps = 4
    c.task.name = {"multihead": "scenes_multihead", "augmented": "scenes_seven"}[
        variant
    ]
    c.task.weights = {}
    c.input.update(batch_size=8, image_size=32, text_length=36, target_length=36)
    c.input.scenes.difficulty = "full"
    c.model.variant = variant
    c.model.word_presence = False
    c.model.vit.update(stem="patch", width=32, depth=1, mlp_dim=64, num_heads=2)
    c.model.t5.update(
        embed_dim=64,
        head_dim=16,
        num_heads=4,
        mlp_dim=64,
        encoder_layers=1,
        decoder_layers=1,
    )
    # Not of a form that asks for the number of steps: a run of 4 then compiles the same
    # step as a run of 2.
    c.schedule.update(name="constant", warmup_steps=2)
    c.eval.update(every_steps=4, batch_size=4, examples=4)
    c.checkpoint.every_steps = 2
    c.log.every_steps = 1
    return c


def params(c, seed: int = 0):
    """Random parameters of the model; nothing is compiled."""
    model = make_model(c)
    shapes = jax.eval_shape(
        lambda key: nn.unbox(model.init(key, example_batch(c))["params"]),
        jax.random.key(0),
    )
    return jax.device_put(random_params(shapes, seed))


def random_params(shapes, seed: int = 0):
    """Parameters of these shapes, about as large as the model would draw them.

    Norms scale by about 1; biases are not all zero, as a new model's are.
    """
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        noise = rng.standard_normal(leaf.shape)
        if leaf.ndim < 2:
            noise = 0.1 * noise + (path[-1].key == "scale")
        elif path[-1].key != "embedding":  # T5 draws those of tokens as large as 1
            noise = noise / np.prod(leaf.shape[:-1]) ** 0.5
        return np.asarray(noise, np.float32)

    return jax.tree_util.tree_map_with_path(draw, shapes)


def write_workdir(folder, c, step: int = 1, metrics=None, seed: int = 0):
    """Writes the workdir of a run that learned nothing; nothing is compiled.

    Args:
      folder: the workdir.
      c: its config.
      step: the step of its one checkpoint.
      metrics: of an evaluation at this step.
      seed: of its parameters.

    Returns:
      The folder.
    """
    workdirs.write_config(folder, c)
    with contextlib.closing(Checkpointer(folder, c)) as saver:
        saver.save(step, {"params": params(c, seed)}, {}, metrics or {})
    return folder


def batch(c, seed: int = 0) -> dict:
    """Random model features; in the augmented variant one target an example."""
    rng = np.random.default_rng(seed)
    size, side = c.input.batch_size, c.input.image_size
    length, text = c.input.target_length, c.input.text_length
    rows = targets.select(c.task.targets)

    def tokens(width):
        ids = rng.integers(3, 400, (size, width))
        ends = rng.integers(4, 12, size)
        positions = np.arange(width)[None]
        ids = np.where(positions < ends[:, None], ids, 0)
        ids[np.arange(size), ends] = 1
        return ids.astype(np.int32)

    prompt = tokens(length)
    word_ends = ((prompt > 1) & (rng.random(prompt.shape) < 0.8)).astype(np.int32)
    make = {
        Kind.HEATMAP: lambda: rng.random((size, side, side), np.float32),
        Kind.SCORE: lambda: rng.random(size, np.float32),
        Kind.WORDS: lambda: tokens(length),
        Kind.CAPTION: lambda: tokens(length),
        Kind.WORD_PRESENCE: lambda: np.where(word_ends, -prompt, prompt),
        Kind.PREFERENCE: lambda: choices(rng, size),
    }
    asked = rng.integers(0, len(rows), size)
    one = c.model.variant == "augmented"
    return {
        "image": rng.integers(0, 256, (size, side, side, 3), np.uint8),
        "inputs": tokens(text),
        "prompt": prompt,
        "word_ends": word_ends,
        "word_labels": (word_ends * (rng.random(prompt.shape) < 0.3)).astype(np.int32),
        "targets": {row.name: make[row.kind]() for row in rows},
        "weights": {
            row.name: (asked == i if one else np.ones(size)).astype(np.float32)
            for i, row in enumerate(rows)
        },
    }


def choices(rng, size: int):
    """float32[size, 2], random choices of pairs and their margins."""
    chances = rng.random(size // 2, np.float32)
    margins = np.repeat(rng.random(size // 2, np.float32), 2)
    both = np.stack([chances, 1 - chances], axis=1).reshape(-1)
    return np.stack([both, margins], axis=1)


def take(tree, rows):
    """Some examples of a batch."""
    return jax.tree.map(lambda x: np.asarray(x)[rows], tree)


class NoiseInput:
    """A train input of random batches; batch i is the same whenever it is asked."""

    def __init__(self, c):
        self._config, self._position = c, 0

    def __next__(self):
        self._position += 1
        return batch(self._config, seed=self._position)

    def metrics(self):
        return {}

    def get_state(self):
        return {"position": self._position}

    def set_state(self, state):
        self._position = state["position"]
