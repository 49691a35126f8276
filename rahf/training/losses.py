"""One loss per kind of target, each returning a value per example.

Section 4 of the paper: pixel-wise squared error for heatmaps, squared error for scores,
teacher-forced cross-entropy for words. Masking and averaging happen once, in `total`.
"""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import optax

from rahf import targets
from rahf.targets import Kind


def heatmap_loss(predicted, truth):
    """Two float32[B, S, S] -> float32[B], the mean over pixels."""
    return jnp.mean(jnp.square(predicted - truth), axis=(1, 2))


def score_loss(predicted, truth):
    """Two float32[B] -> float32[B]."""
    return jnp.square(predicted - truth)


def text_loss(logits, tokens):
    """float32[B, T, V] logits, int32[B, T] tokens (0 = padding) -> float32[B],
    the mean over tokens, in nats."""
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, tokens)
    mask = (tokens != 0).astype(jnp.float32)
    return (losses * mask).sum(axis=1) / jnp.maximum(mask.sum(axis=1), 1.0)


def word_presence_loss(logits, tokens):
    """Returns the summed cross-entropy of the image showing each piece, in nats.

    A prompt without misaligned words labels the whole vocabulary: what is not in the
    prompt is not in the image. If words are misaligned, the image shows something
    unnamed in their place, so only the prompt's own pieces count.

    Args:
      logits: float32[B, V].
      tokens: int32[B, T], the pieces of the prompt (0 = padding, 1 = end), negative in
        misaligned words.

    Returns:
      float32[B].
    """
    rows, none = jnp.arange(len(tokens))[:, None], jnp.zeros_like(logits)
    shown = none.at[rows, jnp.maximum(tokens, 0)].set(1.0)
    named = shown.at[rows, jnp.abs(tokens)].set(1.0)
    counted = jnp.where((tokens < 0).any(axis=1, keepdims=True), named, 1.0)
    losses = optax.sigmoid_binary_cross_entropy(logits, shown) * counted
    return losses[:, 2:].sum(axis=1)


def soft_words_loss(logits, soft):
    """Returns the cross-entropy of the decoder's text with a teacher's probabilities.

    After a word there are two ways to go on, with its mark or without. The text takes
    the one that the teacher finds more probable, but both count, by their probability.

    Args:
      logits: float32[B, T, V].
      soft: float32[B, T, 3]: the text's token (0 = padding), the other way's token, and
        the probability of the other way.

    Returns:
      float32[B], the mean over tokens, in nats.
    """
    tokens, other = (soft[..., i].astype(jnp.int32)[..., None] for i in (0, 1))
    said = -jax.nn.log_softmax(logits)
    losses = [
        jnp.take_along_axis(said, way, axis=-1)[..., 0] for way in (tokens, other)
    ]
    chance, mask = soft[..., 2], (tokens[..., 0] != 0).astype(jnp.float32)
    mixed = (1 - chance) * losses[0] + chance * losses[1]
    return (mixed * mask).sum(axis=1) / jnp.maximum(mask.sum(axis=1), 1.0)


LOSSES = {
    Kind.HEATMAP: heatmap_loss,
    Kind.SCORE: score_loss,
    Kind.WORDS: text_loss,
    Kind.CAPTION: text_loss,
    Kind.WORD_PRESENCE: word_presence_loss,
    Kind.SOFT_WORDS: soft_words_loss,
}


def loss_weights(given: Mapping[str, float], names: Sequence[str]) -> dict[str, float]:
    """Returns the weight of each target's loss; 1 if the config gives none.

    Weights of known targets that the task lacks are ignored, so that a config may
    override `task.targets` alone.

    Args:
      given: `config.loss_weights`.
      names: the names of the task's targets.

    Raises:
      ValueError: `config.loss_weights` names an unknown target.
    """
    known = dict.fromkeys([*names, *(row.name for row in targets.rows())])
    for name in given:
        if name not in known:
            raise ValueError(
                f"config.loss_weights.{name}: unknown target; known: {', '.join(known)}"
            )
    return {name: float(given.get(name, 1.0)) for name in names}


def total(outputs, batch, weights, counts):
    """Returns the weighted sum over targets of the mean over examples that have them.

    Args:
      outputs: the model's outputs by target name.
      batch: a batch, with "targets" and "weights" by target name.
      weights: {name: float}, see `loss_weights`.
      counts: {name: float32[]}, the sum of the example weights of the whole batch, of
        which `batch` may be a part (gradient accumulation).

    Returns:
      float32[], and {name: float32[]}, the weighted sums of per-example losses.
    """
    sums = {}
    for name in weights:
        loss = LOSSES[targets.get(name).kind]
        values = loss(outputs[name], batch["targets"][name])
        sums[name] = (values * batch["weights"][name]).sum()
    means = {
        name: value / jnp.maximum(counts[name], 1.0) for name, value in sums.items()
    }
    return sum(weights[name] * means[name] for name in weights), sums
