"""A CLIP of a training config, and what it says of a batch, by targets' names."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from rahf import targets as targets_lib
from rahf.baselines import clip_maps
from rahf.baselines.clip_maps import MapChoice
from rahf.baselines.clip_scores import ClipFormula
from rahf.models.clip import Clip, ClipConfig, ClipTower
from rahf.targets import Kind

#: The end of sequence in batches, at which text is pooled.
END_ID = 1
#: What a trained CLIP says, by targets' names; fine-tuned, it says another score.
SCORE, HEATMAP, WORDS = "alignment", "misalignment", "misaligned_words"
#: The cosine, moved to [0, 1].
ALIGNMENT = ClipFormula(SCORE, lambda cosine, scale: (1 + cosine) / 2)


def score_of(config) -> str:
    """Returns the name of the score that the cosine stands for in a run.

    Raises:
      ValueError: the task has neither captions nor a single score.
    """
    names = tuple(config.task.targets)
    if "caption" in names:
        return SCORE
    if [row.kind for row in targets_lib.select(names)] != [Kind.SCORE]:
        raise ValueError(
            "config.learner='clip' learns from captions, or one score: expected "
            f"'caption' among config.task.targets, or a score alone, got {names}"
        )
    return names[0]


def make_clip(config) -> Clip:
    """Builds the network that a training config describes (configs/clip_scenes.py)."""
    m = config.model
    return Clip(
        ClipConfig(
            image=ClipTower(**m.image),
            text=ClipTower(**m.text),
            embed_dim=m.embed_dim,
            image_size=config.input.image_size,
            patch_size=m.patch_size,
            vocab_size=m.vocab_size,
            context_length=config.input.target_length,
            activation=m.activation,
            end_id=END_ID,
            dtype=jnp.dtype(m.dtype),
        )
    )


def find_choice(config) -> MapChoice:
    """Returns the map that a training config names."""
    return MapChoice(config.model.map.definition, config.model.map.reading)


def scale_pixels(images):
    """uint8 -> float32 in [-1, 1], of numpy or JAX arrays."""
    return images.astype("float32") / 127.5 - 1


def make_clip_predict_step(
    config, targets: Sequence[str]
) -> Callable[[Any, Any], dict[str, Any]]:
    """Builds predict(params, batch) -> {name: array}, jitted, see
    `rahf.inference.predict_step.make_predict_step`.

    Raises:
      ValueError: a CLIP says nothing of a target.
    """
    score = score_of(config)
    if unknown := [name for name in targets if name not in (score, HEATMAP, WORDS)]:
        raise ValueError(
            f"this CLIP predicts {score}, {HEATMAP} and {WORDS}, not "
            f"{', '.join(unknown)}; see config.eval.task"
        )
    model, choice = make_clip(config), find_choice(config)

    @jax.jit
    def predict(params, batch):
        images, tokens = scale_pixels(batch["image"]), batch["prompt"]
        if set(targets) == {score}:
            cosines = model.apply(
                {"params": params}, images, tokens, method=Clip.cosines
            )
            return {score: ALIGNMENT.compute(cosines, 1.0)}
        cosines, maps, match = clip_maps.explain(model, params, images, tokens, choice)
        found = {
            score: ALIGNMENT.compute(cosines, 1.0),
            HEATMAP: maps,
            WORDS: clip_maps.doubt_words(match, owners_at_ends(batch["word_ends"])),
        }
        return {name: found[name] for name in targets}

    return predict


def owners_at_ends(word_ends):
    """Returns which tokens belong to the word that ends at a place.

    Args:
      word_ends: int32[B, T], 1 where a token ends a word. The tokens since the word
        before belong to it too.

    Returns:
      bool[B, T, T]: place, token.
    """
    number = jnp.cumsum(word_ends, axis=1) - word_ends
    same = number[:, :, None] == number[:, None, :]
    return same & (word_ends[:, :, None] > 0)
