"""The learners of a CLIP: what goes together, and then a score.

Radford et al. (2021), section 2.3: within a batch, each image is to find its own text and
each text its own image, by a softmax over exp(logit_scale) times their cosines. Texts
that are equal are no negatives of each other. It learns from any task of captions.

A CLIP that has learned this can be fine-tuned for one score: (1 + cosine) / 2 is brought
to what raters said, by its squared error, and both towers learn. The paper fine-tunes
CLIP for each score and does not say how.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from rahf.baselines.clip_runs import ALIGNMENT, make_clip, scale_pixels, score_of
from rahf.input.loader import make_eval_batches
from rahf.models import learners
from rahf.models.batch import example_batch
from rahf.models.clip import Clip
from rahf.training.losses import score_loss

#: `config.learner`.
NAME = "clip"
#: The target whose examples are pairs of an image and its text.
CAPTION = "caption"
_LARGEST_SCALE = 100.0  # of the logits, as in the paper


@dataclasses.dataclass(frozen=True)
class ContrastiveLearner:
    """CLIP, learning to match; see `rahf.models.learners.Learner`."""

    config: Any
    model: Clip

    @classmethod
    def from_config(cls, config) -> "ContrastiveLearner":
        """Returns the learner of a training config.

        Raises:
          ValueError: the task has neither captions nor a single score.
        """
        return cls(config, make_clip(config))

    def init(self, key):
        """Returns new parameters."""
        batch = example_batch(self.config)
        images = scale_pixels(batch["image"])
        return self.model.init(key, images, batch["prompt"])["params"]

    def counts(self, batch):
        """Returns the number of pairs."""
        return {CAPTION: batch["weights"][CAPTION].sum()}

    def loss(self, params, batch, counts, key):
        """Returns the mean cross-entropy of both directions, in nats.

        With `config.optimizer.accumulation`, pairs are told from those of their own part
        of the batch alone.
        """
        variables, tokens = {"params": params}, batch["prompt"]
        images: Any = self.model.apply(
            variables, scale_pixels(batch["image"]), method=Clip.encode_image
        )
        texts: Any = self.model.apply(variables, tokens, method=Clip.encode_text)
        scale = jnp.minimum(jnp.exp(params["logit_scale"]), _LARGEST_SCALE)
        values = pair_losses(
            scale * images @ texts.T, tokens, batch["weights"][CAPTION]
        )
        total = values.sum()
        return total / jnp.maximum(counts[CAPTION], 1.0), {CAPTION: total}

    def pretrained(self, params):
        """Nothing begins pretrained."""
        return params

    def rate(self, name: str) -> float:
        """All parameters learn alike."""
        return 1.0

    def evaluator(self) -> learners.Evaluate | None:
        """Measures by retrieval where the task has captions alone; else by its metrics."""
        if tuple(self.config.task.targets) == (CAPTION,):
            return _Retrieval(self.config, self.model)
        return None


@dataclasses.dataclass(frozen=True)
class RatingLearner(ContrastiveLearner):
    """CLIP, fine-tuned for one score; see `rahf.models.learners.Learner`."""

    def counts(self, batch):
        """Returns the number of rated images."""
        name = score_of(self.config)
        return {name: batch["weights"][name].sum()}

    def loss(self, params, batch, counts, key):
        """Returns the mean squared error of (1 + cosine) / 2."""
        del key
        name = score_of(self.config)
        images = scale_pixels(batch["image"])
        cosines = self.model.apply(
            {"params": params}, images, batch["prompt"], method=Clip.cosines
        )
        values = score_loss(ALIGNMENT.compute(cosines, 1.0), batch["targets"][name])
        total = (values * batch["weights"][name]).sum()
        return total / jnp.maximum(counts[name], 1.0), {name: total}


def _make_learner(config) -> ContrastiveLearner:
    if CAPTION in config.task.targets:
        return ContrastiveLearner.from_config(config)
    score_of(config)
    return RatingLearner.from_config(config)


def pair_losses(logits, tokens, weights):
    """Returns the loss of each pair.

    Args:
      logits: float32[B, B], of every image with every text.
      tokens: int32[B, L]; texts that are equal do not count as wrong for one another.
      weights: float32[B], 0 where a row is no pair.

    Returns:
      float32[B], weighted: the mean of image to text and text to image, in nats.
    """
    same = (tokens[:, None] == tokens[None]).all(axis=-1)
    own = jnp.eye(len(logits), dtype=bool)
    counted = (~same | own) & (weights > 0)[None] & (weights > 0)[:, None]
    logits = jnp.where(counted | own, logits, -1e9)
    label = jnp.arange(len(logits))
    cross = optax.softmax_cross_entropy_with_integer_labels
    return weights * (cross(logits, label) + cross(logits.T, label)) / 2


class _Retrieval:
    """How often an image finds its text, and a text its image, among the dev records."""

    def __init__(self, config, model: Clip):
        self._config = config

        @jax.jit
        def encode(params, images, tokens):
            variables = {"params": params}
            pixels = scale_pixels(images)
            return (
                model.apply(variables, pixels, method=Clip.encode_image),
                model.apply(variables, tokens, method=Clip.encode_text),
            )

        self._encode = encode

    def __call__(self, params) -> dict[str, float]:
        e = self._config.eval
        batches = make_eval_batches(
            self._config,
            split=e.split,
            targets=(CAPTION,),
            batch_size=e.batch_size,
            examples=e.examples,
        )
        found: list[tuple[np.ndarray, ...]] = []
        for batch, infos in batches:
            count = len(infos)
            encoded = self._encode(params, batch["image"], batch["prompt"])
            arrays = (*jax.device_get(encoded), batch["prompt"])
            found.append(tuple(x[:count] for x in arrays))
        return retrieval(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


def retrieval(images: np.ndarray, texts: np.ndarray, tokens: Any) -> dict[str, float]:
    """Returns the share of images whose nearest text is theirs, and the reverse.

    Args:
      images, texts: float32[N, E] of length 1.
      tokens: int32[N, L]; of equal texts, any is right.
    """
    rows = np.asarray(tokens)
    same = (rows[:, None] == rows[None]).all(axis=-1)
    cosines, every = images @ texts.T, np.arange(len(images))
    right = {
        "image_to_text": same[every, cosines.argmax(axis=1)],
        "text_to_image": same[every, cosines.argmax(axis=0)],
    }
    return {f"retrieval/{name}": float(hits.mean()) for name, hits in right.items()}


learners.register(NAME, _make_learner)
