"""What CLIP's gradients say of where an image, and which words, match a prompt.

The paper compares its misalignment heatmaps with a "CLIP gradient map" that it does not
spell out. Four definitions are in use (`DEFINITIONS`); each says where the image
matches the text, so a map of misalignment needs a reading of it (`READINGS`). Words get
gradient times attention from the end of text in the last text layers: what hardly moves
the cosine is taken as not shown. None of it is trained.

Shapes: B batch, S image side, G grid side, L text tokens, D width, H heads.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rahf.models.clip import INTERMEDIATES, PERTURBATIONS, Clip, end_positions

#: How many of the last text layers explain words.
WORD_LAYERS = 3


@dataclasses.dataclass(frozen=True)
class _Gradients:
    """What happened inside the image tower, and the cosine's gradient there.

    Attributes:
      pixels: float32[B, S, S, 3], d cosine / d pixels.
      inside, gradient: the intermediates and the gradients of the blocks, by name.
    """

    pixels: jax.Array
    inside: Sequence[Any]
    gradient: Sequence[Any]


def _pixels(found: _Gradients, patch_size: int):
    """|d cosine / d pixels| summed over colours, smoothed by a Gaussian whose standard
    deviation is half a patch: float32[B, S, S], at least 0."""
    size = jnp.abs(found.pixels).sum(axis=-1)
    smooth = _smoothing(size.shape[1], patch_size / 2)
    return jnp.einsum("ij,bjk,lk->bil", smooth, size, smooth)


def _smoothing(length: int, sigma: float) -> np.ndarray:
    """float32[S, S], the matrix that smooths a column, mirrored at its ends."""
    reach = min(int(3 * sigma) + 1, length - 1)
    bell = np.exp(-np.square(np.arange(-reach, reach + 1) / sigma) / 2)
    mirrored = np.pad(np.arange(length), reach, mode="reflect")
    matrix = np.zeros((length, length), np.float32)
    for row in range(length):
        window = mirrored[row : row + 2 * reach + 1]
        np.add.at(matrix[row], window, bell / bell.sum())
    return matrix


def _grad_cam(found: _Gradients, patch_size: int):
    """Grad-CAM on the tokens that the last block attends to, after its first norm: each
    channel weighted by the mean of its gradient over patches; float32[B, G * G]."""
    tokens = found.inside[-1]["normed"][0][:, 1:]
    weight = found.gradient[-1]["normed"][:, 1:].mean(axis=1, keepdims=True)
    return (weight * tokens).sum(axis=-1)


def _grad_eclip(found: _Gradients, patch_size: int):
    """Grad-ECLIP (Zhao et al., ICML 2024): in the last block, the gradient with respect
    to what the class token gathers, times each patch's value, times how alike the class
    token's query and the patch's key are, from 0 to 1 over the image; float32[B, G * G].
    """
    inside = found.inside[-1]["attention"]
    query, key, value = (inside[name][0] for name in ("queries", "keys", "values"))
    weight = found.gradient[-1]["attention"]["mixed"][:, :1]
    alike = (_unit(query[:, :1]) * _unit(key[:, 1:])).sum(axis=-1)
    alike = _stretch(alike)
    return (weight * value[:, 1:]).sum(axis=-1) * alike


def _relevance(found: _Gradients, patch_size: int):
    """Relevance propagated through attention (Chefer et al., 2021): from the identity,
    R <- R + relu(mean over heads of gradient * attention) R in every block, and then
    the class token's row; float32[B, G * G], at least 0."""
    weights = [block["attention"]["weights"][0] for block in found.inside]
    count = weights[0].shape[-1]
    relevance = jnp.broadcast_to(jnp.eye(count), (len(weights[0]), count, count))
    for weight, block in zip(weights, found.gradient, strict=True):
        step = _gradient_attention(weight, block["attention"]["weights"])
        relevance = relevance + step @ relevance
    return relevance[:, 0, 1:]


def _gradient_attention(weights, gradient):
    """Two float32[B, H, Q, N] -> float32[B, Q, N], at least 0."""
    return jax.nn.relu((weights * gradient).mean(axis=1))


#: Definition -> (gradients, patch side) -> how far each place speaks for the match.
DEFINITIONS: dict[str, Callable[[_Gradients, int], Any]] = {
    "pixels": _pixels,
    "grad_cam": _grad_cam,
    "grad_eclip": _grad_eclip,
    "relevance": _relevance,
}


def _low(match):
    return 1 - _stretch(jax.nn.relu(match))


def _high(match):
    return _stretch(jax.nn.relu(match))


def _negative(match):
    most = jnp.abs(match).max(axis=-1, keepdims=True)
    return jax.nn.relu(-match) / jnp.maximum(most, 1e-12)


#: How a map of the match, float32[B, N], becomes one of misalignment in [0, 1].
READINGS: dict[str, Callable[[Any], Any]] = {
    "low": _low,  # where least speaks for the match, from the image's most to its least
    "negative": _negative,  # where it speaks against the match
    "high": _high,  # the map of the match itself: where the text looks
}


def _stretch(values):
    """float32[B, N] -> from 0 to 1 in each row; a constant row becomes 0."""
    low = values.min(axis=-1, keepdims=True)
    wide = values.max(axis=-1, keepdims=True) - low
    return (values - low) / jnp.where(wide > 0, wide, 1.0)


def _unit(x):
    return x * jax.lax.rsqrt(jnp.square(x).sum(axis=-1, keepdims=True) + 1e-24)


@dataclasses.dataclass(frozen=True)
class MapChoice:
    """Which map of misalignment is computed.

    Attributes:
      definition: a name in `DEFINITIONS`.
      reading: a name in `READINGS`; "negative" is zero where a definition has no sign.

    Raises:
      ValueError: there is no such definition or reading.
    """

    definition: str = "pixels"
    reading: str = "high"

    def __post_init__(self):
        for name, options in (("definition", DEFINITIONS), ("reading", READINGS)):
            if getattr(self, name) not in options:
                raise ValueError(
                    f"{name}={getattr(self, name)!r}: expected one of "
                    f"{', '.join(options)}"
                )
        if self.reading == "negative" and self.definition in ("pixels", "relevance"):
            raise ValueError(
                f"the definition {self.definition!r} has no sign, so nothing speaks "
                "against the match; choose the reading low or high"
            )


#: The map that is computed unless another is asked for: the best on the dev split of
#: scenes (docs/baselines.md).
USUAL_MAP = MapChoice()


def explain(model: Clip, params, images, tokens, choice: MapChoice):
    """Explains the cosine of each image and its text.

    Args:
      model: the network.
      params: its parameters.
      images: float32[B, S, S, 3], normalised as the weights expect.
      tokens: int32[B, L].
      choice: the map.

    Returns:
      cosines float32[B]; the misalignment map float32[B, S, S] in [0, 1]; and
      float32[B, L], at least 0, how far each token speaks for the match.
    """
    names = (choice.definition,)
    cosines, found, tokens_match = matches(model, params, images, tokens, names)
    match = found[choice.definition]
    read = READINGS[choice.reading](match.reshape(len(match), -1))
    read = read.reshape(match.shape)
    size = (len(read), *images.shape[1:3])
    maps = jax.image.resize(read, size, "bilinear")
    return cosines, jnp.clip(maps, 0, 1), tokens_match


def matches(model: Clip, params, images, tokens, definitions: Sequence[str]):
    """Returns how far places and tokens speak for the match, before any reading.

    Args:
      model, params, images, tokens: see `explain`.
      definitions: names in `DEFINITIONS`.

    Returns:
      cosines float32[B]; by definition a map float32[B, G, G], of "pixels"
      float32[B, S, S]; and the tokens' float32[B, L].
    """
    config = model.config

    def run(images, perturbations):
        (cosines, found) = model.apply(
            {"params": params, PERTURBATIONS: perturbations},
            images,
            tokens,
            method=Clip.cosines,
            mutable=[INTERMEDIATES],
        )
        return cosines.sum(), (cosines, found[INTERMEDIATES])

    zeros = _zeros(model, params, images, tokens)
    (of_pixels, of_inside), (cosines, inside) = jax.grad(
        run, argnums=(0, 1), has_aux=True
    )(images, zeros)
    blocks = [f"blocks_{i}" for i in range(config.image.depth)]
    found = _Gradients(
        of_pixels,
        [inside["image"][name] for name in blocks],
        [of_inside["image"][name] for name in blocks],
    )
    maps = {name: DEFINITIONS[name](found, config.patch_size) for name in definitions}
    side = config.grid
    maps = {
        name: match.reshape(-1, side, side) if match.ndim == 2 else match
        for name, match in maps.items()
    }
    words = _token_matches(inside["text"], of_inside["text"], tokens, config)
    return cosines, maps, words


def _zeros(model: Clip, params, images, tokens):
    """Returns zeros for every place that is differentiated by."""

    def perturbations(params, images, tokens):
        _, found = model.apply(
            {"params": params},
            images,
            tokens,
            method=Clip.cosines,
            mutable=[PERTURBATIONS],
        )
        return found[PERTURBATIONS]

    shapes = jax.eval_shape(perturbations, params, images, tokens)
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)


def _token_matches(inside, gradient, tokens, config):
    rows = jnp.arange(len(tokens))
    ends = end_positions(tokens, config.end_id)
    total = jnp.zeros(tokens.shape, jnp.float32)
    for i in range(config.text.depth)[-WORD_LAYERS:]:
        weights = inside[f"blocks_{i}"]["attention"]["weights"][0]
        slope = gradient[f"blocks_{i}"]["attention"]["weights"]
        total += _gradient_attention(weights, slope)[rows, ends]
    return total


def doubt_words(tokens_match, owners):
    """Returns how probably each word is not shown, as far as its tokens say.

    A word's tokens add up; the word that speaks most for the match has probability 0,
    one that does not at all 1.

    Args:
      tokens_match: float32[B, L], from `explain`.
      owners: bool[B, W, L], which tokens are whose.

    Returns:
      float32[B, W]; 0 for words without tokens, and where no word speaks for the match.
    """
    found = jnp.einsum("bl,bwl->bw", tokens_match, owners.astype(jnp.float32))
    most = found.max(axis=-1, keepdims=True)
    doubt = 1 - found / jnp.where(most > 0, most, 1.0)
    return jnp.where((most > 0) & owners.any(axis=-1), doubt, 0.0)
