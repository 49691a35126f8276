"""One loss per kind of target, each returning a value per example.

Section 4 of the paper: pixel-wise squared error for heatmaps, squared error for scores,
teacher-forced cross-entropy for words. Masking and averaging happen once, in `total`.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

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


#: By how much a difference of scores moves the log-odds of a choice, unless the config
#: says otherwise. Two people's ratings of one image differ by .178 in root mean square
#: (`rahf.evaluation.side_by_side`); a logistic distribution that wide has a scale of
#: .178 * sqrt(3) / pi = .098, so that log-odds are the difference times 10.2.
SCALE = 10.0


def preference_loss(scores, choices, *, scale: float = SCALE, margin: float = 0.0):
    """Returns the cross-entropy of people's choices with those that scores predict.

    Bradley and Terry (1952): the log-odds that the first of two images is preferred are
    proportional to the difference of their scores. The scores are those in [0, 1] and
    not the logits behind them, because raters answer on that scale with about the same
    error everywhere: .95 and .99 look alike to them, though their logits are 1.65
    apart. A score that learns from ratings and from choices then means one thing.

    A tie is half a choice for either image. With a margin, the score of the chosen image
    must exceed the other by that much before it counts as level, as for the reward
    models of Llama 2 (section 3.2.2); a tie has none, a divided vote a part of it.

    Args:
      scores: float32[B] in [0, 1]; rows 2k and 2k + 1 are the images of a pair.
      choices: float32[B, 2]: the probability that people prefer this image to the other
        of its pair, and the pair's own margin, in units of the score.
      scale: by how much the log-odds rise with the difference.
      margin: added to the margin of every pair.

    Returns:
      float32[B], in nats, the same in both rows of a pair.
    """
    size = len(scores)
    # Counting operations asks for the loss of one row, which has no partner.
    pairs = jnp.pad(scores, (0, size % 2)).reshape(-1, 2)
    others = pairs[:, ::-1].reshape(-1)[:size]
    chance, own = choices[:, 0], choices[:, 1]
    due = (own + margin) * (2 * chance - 1)
    return optax.sigmoid_binary_cross_entropy(scale * (scores - others - due), chance)


LOSSES: dict[Kind, Callable[..., Any]] = {
    Kind.HEATMAP: heatmap_loss,
    Kind.SCORE: score_loss,
    Kind.WORDS: text_loss,
    Kind.CAPTION: text_loss,
    Kind.WORD_PRESENCE: word_presence_loss,
    Kind.SOFT_WORDS: soft_words_loss,
    Kind.PREFERENCE: preference_loss,
}


def make_losses(config) -> dict[Kind, Callable[..., Any]]:
    """Returns `LOSSES` with the options of a training config.

    Args:
      config: the config; `preference` has `scale` and `margin` of `preference_loss`, and
        may be absent.

    Raises:
      ValueError: an option is unknown or impossible.
    """
    given = {"scale": SCALE, "margin": 0.0} | dict(config.get("preference") or {})
    if unknown := sorted(given.keys() - {"scale", "margin"}):
        raise ValueError(
            f"config.preference has no option {', '.join(unknown)}; it has scale, margin"
        )
    scale, margin = float(given["scale"]), float(given["margin"])
    if not (0 < scale < math.inf and 0 <= margin < 1):
        raise ValueError(
            f"config.preference.scale={scale:g} must be above 0, and "
            f"config.preference.margin={margin:g} in [0, 1): scores are in [0, 1]"
        )
    loss = functools.partial(preference_loss, scale=scale, margin=margin)
    return LOSSES | {Kind.PREFERENCE: loss}


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


def total(outputs, batch, weights, counts, table=LOSSES):
    """Returns the weighted sum over targets of the mean over examples that have them.

    Args:
      outputs: the model's outputs by target name.
      batch: a batch, with "targets" and "weights" by target name.
      weights: {name: float}, see `loss_weights`.
      counts: {name: float32[]}, the sum of the example weights of the whole batch, of
        which `batch` may be a part (gradient accumulation).
      table: the loss of each kind, see `make_losses`.

    Returns:
      float32[], and {name: float32[]}, the weighted sums of per-example losses.
    """
    sums = {}
    for name in weights:
        loss = table[targets.get(name).kind]
        values = loss(outputs[name], batch["targets"][name])
        sums[name] = (values * batch["weights"][name]).sum()
    means = {
        name: value / jnp.maximum(counts[name], 1.0) for name, value in sums.items()
    }
    return sum(weights[name] * means[name] for name in weights), sums
