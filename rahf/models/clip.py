"""CLIP: an image and a text tower whose embeddings agree where image and text do.

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision"
(2021): a pre-norm ViT and a causal transformer over byte pairs, each projected to a
common space without a bias. The parameters carry this project's names;
`rahf.weights.clip` reads published ones.

Shapes: B batch, S image side, P patch side, N = (S / P)^2 + 1 image tokens, L text
tokens, D width, H heads, K = D / H, E embedding.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from rahf.models.partitioning import constrain, named

#: The collections by which a gradient with respect to attention is taken, and in which
#: what happens inside is found (`rahf.baselines.clip_maps`).
PERTURBATIONS, INTERMEDIATES = "perturbations", "intermediates"


def quick_gelu(x):
    """GELU as OpenAI approximates it: x * sigmoid(1.702 x)."""
    return x * jax.nn.sigmoid(1.702 * x)


#: Name -> activation of the MLPs; names as in Hugging Face's config.json.
ACTIVATIONS: dict[str, Callable] = {
    "quick_gelu": quick_gelu,
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
}
#: Width of an image tower -> that of its heads, where it is not 64: open_clip's H, g
#: and bigG.
_HEAD_WIDTHS = {1280: 80, 1408: 88, 1664: 104}
_HEAD_WIDTH = 64


@dataclasses.dataclass(frozen=True)
class ClipTower:
    """Sizes of a transformer.

    Attributes:
      width, depth, num_heads, mlp_dim: D, the number of blocks, H, the MLP's width.
    """

    width: int
    depth: int
    num_heads: int
    mlp_dim: int

    def __post_init__(self):
        if self.num_heads < 1 or self.width % self.num_heads:
            raise ValueError(
                f"a CLIP tower of width {self.width} cannot have {self.num_heads} heads"
            )


@dataclasses.dataclass(frozen=True)
class ClipConfig:
    """Hyperparameters of both towers.

    Attributes:
      image, text: sizes of the towers.
      embed_dim: E.
      image_size: S.
      patch_size: P, which divides S.
      vocab_size: the number of byte pairs.
      context_length: L at most.
      activation: a name in `ACTIVATIONS`: "quick_gelu" for OpenAI's weights, "gelu" for
        LAION's.
      end_id: the token at whose first place text is pooled. None = at the largest token
        of the text, which in OpenAI's vocabulary is the end of text; configs with
        `eos_token_id` 2 mean that too.
      norm_epsilon: epsilon of the layer norms.
      dtype: compute dtype; parameters are float32.
    """

    image: ClipTower
    text: ClipTower
    embed_dim: int
    image_size: int
    patch_size: int
    vocab_size: int
    context_length: int
    activation: str = "quick_gelu"
    end_id: int | None = None
    norm_epsilon: float = 1e-5
    dtype: Any = jnp.float32

    def __post_init__(self):
        if self.activation not in ACTIVATIONS:
            raise ValueError(
                f"activation={self.activation!r}: expected one of "
                f"{', '.join(ACTIVATIONS)}"
            )
        if self.image_size % self.patch_size:
            raise ValueError(
                f"image_size={self.image_size} must be a multiple of "
                f"patch_size={self.patch_size}"
            )

    @property
    def grid(self) -> int:
        return self.image_size // self.patch_size

    @classmethod
    def from_shapes(
        cls, shapes: Mapping[str, tuple[int, ...]], **known: Any
    ) -> "ClipConfig":
        """Counts the sizes in a checkpoint's parameters.

        Args:
          shapes: shape by name, as `rahf.weights.clip` names them.
          **known: fields that shapes do not tell, and `image_heads` and `text_heads`,
            the numbers of heads. Where those are missing or None, heads are 64 wide,
            and as wide as open_clip's in image towers of 1280, 1408 and 1664.

        Raises:
          ValueError: the shapes are not of a CLIP with a ViT.
        """
        try:
            width, embed_dim = shapes["image/projection"]
            patch_size = shapes["image/patch_embedding/kernel"][0]
            positions = shapes["image/position_embedding"][0]
            vocab_size, text_width = shapes["text/token_embedding"]
            length = shapes["text/position_embedding"][0]
        except (KeyError, ValueError) as error:
            raise ValueError(
                f"the weights are not those of a CLIP with a ViT: {error!r}"
            ) from error
        grid = math.isqrt(positions - 1)
        if grid * grid != positions - 1:
            raise ValueError(
                f"the image tower has {positions} positions, expected a square and one "
                "for the class token"
            )
        image_heads = known.pop("image_heads", None)
        text_heads = known.pop("text_heads", None)
        image_heads = image_heads or width // _HEAD_WIDTHS.get(width, _HEAD_WIDTH)
        return cls(
            image=_count_tower(shapes, "image", width, image_heads),
            text=_count_tower(
                shapes, "text", text_width, text_heads or text_width // _HEAD_WIDTH
            ),
            embed_dim=embed_dim,
            image_size=grid * patch_size,
            patch_size=patch_size,
            vocab_size=vocab_size,
            context_length=length,
            **known,
        )


def _count_tower(shapes, name: str, width: int, heads: int) -> ClipTower:
    depth = 0
    while f"{name}/blocks_{depth}/norm_1/scale" in shapes:
        depth += 1
    kernel = f"{name}/blocks_0/mlp/in/kernel"
    if kernel not in shapes:
        raise ValueError(f"the weights have no {kernel}: the {name} tower is missing")
    return ClipTower(width, depth, max(heads, 1), shapes[kernel][1])


def _normal(deviation: float):
    return nn.initializers.normal(deviation)


class _Attention(nn.Module):
    """Attention of one tower; its weights can be read, and perturbed to differentiate."""

    tower: ClipTower
    deviation: float  # of the output's initial kernel
    dtype: Any

    @nn.compact
    def __call__(self, x, mask):
        t = self.tower
        heads = (*x.shape[:2], t.num_heads, t.width // t.num_heads)
        query, key, value = (
            self._linear(name, t.width**-0.5, ("embed", "heads"))(x)
            for name in ("query", "key", "value")
        )
        for name, part in (("queries", query), ("keys", key), ("values", value)):
            self.sow(INTERMEDIATES, name, part)
        query, key, value = (part.reshape(heads) for part in (query, key, value))
        logits = jnp.einsum(
            "bqhk,bnhk->bhqn", query, key, preferred_element_type=jnp.float32
        ) * (heads[-1] ** -0.5)
        if mask is not None:
            logits = jnp.where(mask, logits, jnp.finfo(jnp.float32).min)
        weights = jax.nn.softmax(logits)  # [B, H, Q, N]
        self.sow(INTERMEDIATES, "weights", weights)
        weights = _perturb(self, "weights", weights)
        mixed = jnp.einsum("bhqn,bnhk->bqhk", weights.astype(value.dtype), value)
        mixed = _perturb(self, "mixed", mixed.reshape(x.shape))
        return self._linear("out", self.deviation, ("heads", "embed"))(mixed)

    def _linear(self, name: str, deviation: float, axes) -> nn.Dense:
        return nn.Dense(
            self.tower.width,
            dtype=self.dtype,
            kernel_init=named(_normal(deviation), *axes),
            bias_init=named(nn.initializers.zeros_init(), axes[1]),
            name=name,
        )


def _perturb(module: nn.Module, name: str, value):
    """Adds a zero to differentiate by, unless parameters are being made."""
    if module.is_initializing():
        return value
    return module.perturb(name, value, PERTURBATIONS)


class _Mlp(nn.Module):
    tower: ClipTower
    deviation: float
    activation: str
    dtype: Any

    @nn.compact
    def __call__(self, x):
        t, zeros = self.tower, nn.initializers.zeros_init()
        x = nn.Dense(
            t.mlp_dim,
            dtype=self.dtype,
            kernel_init=named(_normal((2 * t.width) ** -0.5), "embed", "mlp"),
            bias_init=named(zeros, "mlp"),
            name="in",
        )(x)
        return nn.Dense(
            t.width,
            dtype=self.dtype,
            kernel_init=named(_normal(self.deviation), "mlp", "embed"),
            bias_init=named(zeros, "embed"),
            name="out",
        )(ACTIVATIONS[self.activation](x))


class _Block(nn.Module):
    config: ClipConfig
    tower: ClipTower

    @nn.compact
    def __call__(self, x, mask):
        c, t = self.config, self.tower
        deviation = (t.width * 2 * t.depth) ** -0.5
        y = _norm(c, "norm_1")(x)
        self.sow(INTERMEDIATES, "normed", y)
        y = _perturb(self, "normed", y)
        x = x + _Attention(t, deviation, c.dtype, name="attention")(y, mask)
        y = _norm(c, "norm_2")(x)
        x = x + _Mlp(t, deviation, c.activation, c.dtype, name="mlp")(y)
        return constrain(x, "batch", "length", "embed")


def _norm(c: ClipConfig, name: str) -> nn.LayerNorm:
    return nn.LayerNorm(
        epsilon=c.norm_epsilon,
        dtype=c.dtype,
        scale_init=named(nn.initializers.ones_init(), "norm"),
        bias_init=named(nn.initializers.zeros_init(), "norm"),
        name=name,
    )


class _ImageTower(nn.Module):
    """float[B, S, S, 3], normalised as the weights expect -> dtype[B, E]."""

    config: ClipConfig

    @nn.compact
    def __call__(self, images):
        c, t = self.config, self.config.image
        if images.shape[1:] != (c.image_size, c.image_size, 3):
            raise ValueError(
                f"expected images [B, {c.image_size}, {c.image_size}, 3], got "
                f"{list(images.shape)}"
            )
        x = nn.Conv(
            t.width,
            (c.patch_size, c.patch_size),
            strides=c.patch_size,
            padding="VALID",
            use_bias=False,
            dtype=c.dtype,
            kernel_init=named(
                nn.initializers.lecun_normal(), None, None, None, "embed"
            ),
            name="patch_embedding",
        )(images.astype(c.dtype))
        x = x.reshape(len(x), c.grid**2, t.width)
        wide = named(_normal(t.width**-0.5), "embed")
        first = self.param("class_embedding", wide, (t.width,), jnp.float32)
        first = jnp.broadcast_to(first.astype(c.dtype), (len(x), 1, t.width))
        places = named(_normal(t.width**-0.5), None, "embed")
        shape = (c.grid**2 + 1, t.width)
        places = self.param("position_embedding", places, shape, jnp.float32)
        x = jnp.concatenate([first, x], axis=1) + places.astype(c.dtype)
        x = _norm(c, "norm_before")(x)
        for i in range(t.depth):
            x = _Block(c, t, name=f"blocks_{i}")(x, None)
        return _project(self, _norm(c, "norm_after")(x[:, 0]), t.width, c)


class _TextTower(nn.Module):
    """int32[B, L] -> dtype[B, E]."""

    config: ClipConfig

    @nn.compact
    def __call__(self, tokens):
        c, t = self.config, self.config.text
        length = tokens.shape[1]
        if length > c.context_length:
            raise ValueError(
                f"expected at most {c.context_length} tokens, got {length}"
            )
        table = named(_normal(0.02), None, "embed")
        table = self.param(
            "token_embedding", table, (c.vocab_size, t.width), jnp.float32
        )
        places = named(_normal(0.01), None, "embed")
        shape = (c.context_length, t.width)
        places = self.param("position_embedding", places, shape, jnp.float32)
        x = jnp.asarray(table, c.dtype)[tokens] + places[:length].astype(c.dtype)
        causal = jnp.tril(jnp.ones((length, length), bool))[None, None]
        for i in range(t.depth):
            x = _Block(c, t, name=f"blocks_{i}")(x, causal)
        pooled = x[jnp.arange(len(x)), end_positions(tokens, c.end_id)]
        return _project(self, _norm(c, "norm_after")(pooled), t.width, c)


def end_positions(tokens, end_id: int | None):
    """Returns where text is pooled.

    Args:
      tokens: int32[B, L].
      end_id: see `ClipConfig`; where a text lacks it, its first place counts.

    Returns:
      int32[B].
    """
    score = tokens if end_id is None else (tokens == end_id).astype(jnp.int32)
    return jnp.argmax(score, axis=1)  # the first of equal ones


def _project(module: nn.Module, x, width: int, c: ClipConfig):
    init = named(_normal(width**-0.5), "embed", None)
    kernel = module.param("projection", init, (width, c.embed_dim), jnp.float32)
    return x @ kernel.astype(c.dtype)


class Clip(nn.Module):
    """Both towers, and the scale of their cosines."""

    config: ClipConfig

    def setup(self):
        self.image = _ImageTower(self.config)
        self.text = _TextTower(self.config)
        scale = named(nn.initializers.constant(math.log(1 / 0.07)))
        self.logit_scale = self.param("logit_scale", scale, (), jnp.float32)

    def encode_image(self, images):
        """float[B, S, S, 3], normalised -> float32[B, E] of length 1."""
        return unit(self.image(images))

    def encode_text(self, tokens):
        """int32[B, L] -> float32[B, E] of length 1."""
        return unit(self.text(tokens))

    def cosines(self, images, tokens):
        """Returns float32[B], the cosine of each image and its own text."""
        return (self.encode_image(images) * self.encode_text(tokens)).sum(axis=-1)

    def scale(self):
        """Returns exp(logit_scale), float32[]."""
        return jnp.exp(self.logit_scale)

    def __call__(self, images, tokens):
        """Returns float32[B, B'], exp(logit_scale) times the cosine of every image with
        every text."""
        images, texts = self.encode_image(images), self.encode_text(tokens)
        return self.scale() * images @ texts.T


def unit(x):
    """dtype[B, E] -> float32[B, E] of length 1; zero stays zero."""
    x = x.astype(jnp.float32)
    square = jnp.square(x).sum(axis=-1, keepdims=True)
    return x * jax.lax.rsqrt(jnp.maximum(square, 1e-24))
