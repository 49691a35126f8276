"""A Vision Transformer whose parameters are named as in the AugReg checkpoints.

Dosovitskiy et al., "An Image is Worth 16x16 Words" (2021). The names are those of the
`.npz` files of Steiner et al., "How to train your ViT?" (2021): such a file is this
module's parameter tree, with "/" for nesting.

Shapes: B batch, S image side, P patch side, G = S / P grid side,
N = G * G (+ 1 with a class token) tokens, D width, H heads, K = D / H.
"""

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from rahf.models.attention import attend
from rahf.models.partitioning import constrain, named
from rahf.models.remat import policy_of
from rahf.models.scanned_layers import is_scanned, scan_layers
from rahf.models.vit_init import grid_waves
from rahf.models.vit_stem import NETWORKS, STEMS, NetworkFeatures, has_batch_norm

_SIZES = {  # width, depth, mlp_dim, num_heads: table 1 of both papers
    "Ti": (192, 12, 768, 3),
    "S": (384, 12, 1536, 6),
    "B": (768, 12, 3072, 12),
    "L": (1024, 24, 4096, 16),
}


@dataclasses.dataclass(frozen=True)
class ViTConfig:
    """Hyperparameters of the image encoder.

    Attributes:
      image_size: side of the square images that the position embeddings are made for;
        for other sizes they are interpolated.
      patch_size: side of a patch; must divide the image side.
      width, depth, mlp_dim, num_heads: sizes of the transformer.
      class_token: prepend AugReg's class token.
      stem: "patch", one linear map of each patch as published; "convolutions" for
        training from scratch; or a network with published weights, such as
        "efficientnet_lite0" or "resnet50" (`rahf.models.vit_stem.NETWORKS`).
      stem_statistics: "frozen" or "trained", the statistics of the batch norms of the
        stem's network (`rahf.models.batch_norm`).
      stem_output: "patches", feature maps brought to the grid of patches, which the
        transformer reads; or "features", what the stem's network gives its own
        classifier, which is then all of the image encoder (`depth` is 0).
      exact_gelu: GELU by the error function, as in Hugging Face's ViT; False is
        AugReg's tanh approximation.
      norm_epsilon: epsilon of the layer norms; 1e-12 in Hugging Face's ViT.
      layer_scale: scale what each attention and MLP adds, per channel, as DINOv2 does.
      registers: learned tokens beside the patches, as in "Vision Transformers Need
        Registers" (Darcet et al., 2024); what becomes of them is not returned.
      swiglu: gate the MLP with a SiLU, as in DINOv2 g, instead of a GELU.
      dropout: dropout rate after the embeddings, attention and MLP.
      dtype: compute dtype; parameters are float32.
      remat: recompute each block in the backward pass (less memory, ~30 % slower); a
        string is a policy of `rahf.models.remat`.
      scan_layers: run the blocks as one loop (`rahf.models.scanned_layers`).
    """

    image_size: int = 384
    patch_size: int = 16
    width: int = 768
    depth: int = 12
    mlp_dim: int = 3072
    num_heads: int = 12
    class_token: bool = True
    stem: str = "patch"
    stem_statistics: str = "frozen"
    stem_output: str = "patches"
    exact_gelu: bool = False
    norm_epsilon: float = 1e-6
    layer_scale: bool = False
    registers: int = 0
    swiglu: bool = False
    dropout: float = 0.0
    dtype: jnp.dtype = jnp.float32
    remat: bool | str = False
    scan_layers: bool = False

    def __post_init__(self):
        if self.stem not in STEMS:
            raise ValueError(
                f"config.model.vit.stem={self.stem!r}; known: "
                f"{', '.join(map(repr, STEMS))}"
            )
        if self.stem_statistics not in ("frozen", "trained"):
            raise ValueError(
                f"config.model.vit.stem_statistics={self.stem_statistics!r}; known: "
                "'frozen', 'trained'"
            )
        if self.stem_statistics == "trained" and not has_batch_norm(self.stem):
            raise ValueError(
                "config.model.vit.stem_statistics='trained', but the stem "
                f"{self.stem!r} has no batch norm, so there are none; set 'frozen'"
            )
        self._check_output()
        if self.image_size % self.patch_size:
            raise ValueError(
                f"config.input.image_size={self.image_size} must be a multiple of "
                f"config.model.vit.patch_size={self.patch_size}"
            )
        if self.width % self.num_heads:
            raise ValueError(
                f"config.model.vit.width={self.width} must be a multiple of "
                f"config.model.vit.num_heads={self.num_heads}"
            )

    def _check_output(self):
        if self.stem_output not in ("patches", "features"):
            raise ValueError(
                f"config.model.vit.stem_output={self.stem_output!r}; known: "
                "'patches', 'features'"
            )
        if self.stem_output == "patches":
            return
        wanted = {"depth": 0, "class_token": False, "patch_size": 32}
        given = {name: getattr(self, name) for name in wanted}
        if self.stem not in NETWORKS or given != wanted:
            raise ValueError(
                "config.model.vit.stem_output='features' are those of a network with "
                f"published weights, at stride 32, and nothing follows it: set {wanted} "
                f"and stem to one of {', '.join(NETWORKS)}; config.model.vit has "
                f"{given | {'stem': self.stem}}"
            )

    @property
    def grid(self) -> int:
        return self.image_size // self.patch_size

    @classmethod
    def from_name(cls, size: str = "B", **fields) -> "ViTConfig":
        """Returns the published "Ti", "S", "B" or "L", with `fields` overriding."""
        if size not in _SIZES:
            raise ValueError(
                f"config.model.vit.size={size!r}; known: {', '.join(_SIZES)}"
            )
        width, depth, mlp_dim, num_heads = _SIZES[size]
        shape = {
            "width": width,
            "depth": depth,
            "mlp_dim": mlp_dim,
            "num_heads": num_heads,
        }
        return cls(**{**shape, **fields})


def resize_position_embedding(embedding, grid: int, class_token: bool):
    """Resizes learned position embeddings to another grid at run time.

    Args:
      embedding: float32[1, N, D].
      grid: the side of the new grid, in patches.
      class_token: whether position 0 belongs to the class token (never resized).

    Returns:
      float32[1, grid * grid (+ 1), D], bilinear over the grid.
    """
    head, patches = embedding[:, : int(class_token)], embedding[:, int(class_token) :]
    side = round(patches.shape[1] ** 0.5)
    if side == grid:
        return embedding
    width = patches.shape[-1]
    patches = patches.reshape(1, side, side, width)
    patches = jax.image.resize(patches, (1, grid, grid, width), "bilinear")
    return jnp.concatenate([head, patches.reshape(1, grid * grid, width)], axis=1)


_XAVIER = nn.initializers.xavier_uniform()
_ZEROS = nn.initializers.zeros_init()


class _PositionEmbedding(nn.Module):
    config: ViTConfig

    @nn.compact
    def __call__(self, x, grid: int):
        c = self.config
        length = c.grid**2 + int(c.class_token)
        embedding = self.param(
            "pos_embedding",
            named(grid_waves(c.class_token), None, None, "embed"),
            (1, length, c.width),
            jnp.float32,
        )
        embedding = resize_position_embedding(embedding, grid, c.class_token)
        return x + embedding.astype(x.dtype)


class _Projection(nn.Module):
    """A linear map whose kernel keeps the heads as a separate axis.

    Attributes:
      equation: einsum of input and kernel.
      shape: shape of the kernel.
      inputs, outputs: input and output axes of the kernel, for the initialiser.
      axes: logical names of the kernel's axes.
    """

    equation: str
    shape: tuple[int, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    axes: tuple[str, ...]
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x):
        xavier = nn.initializers.xavier_uniform(self.inputs, self.outputs)
        kernel = self.param(
            "kernel", named(xavier, *self.axes), self.shape, jnp.float32
        )
        bias_shape = tuple(self.shape[i] for i in self.outputs)
        bias_axes = tuple(self.axes[i] for i in self.outputs)
        bias = self.param("bias", named(_ZEROS, *bias_axes), bias_shape, jnp.float32)
        x = jnp.einsum(self.equation, x, kernel.astype(self.dtype))
        return x + bias.astype(self.dtype)


class _Attention(nn.Module):
    config: ViTConfig

    @nn.compact
    def __call__(self, x):
        c = self.config
        heads, head_dim = c.num_heads, c.width // c.num_heads
        # [B, N, D] -> [B, N, H, K]
        query, key, value = (
            _Projection(
                "bnd,dhk->bnhk",
                (c.width, heads, head_dim),
                inputs=(0,),
                outputs=(1, 2),
                axes=("embed", "heads", "kv"),
                dtype=c.dtype,
                name=name,
            )(x)
            for name in ("query", "key", "value")
        )
        x = attend(query, key, value, scale=head_dim**-0.5)
        return _Projection(
            "bnhk,hkd->bnd",
            (heads, head_dim, c.width),
            inputs=(0, 1),
            outputs=(2,),
            axes=("heads", "kv", "embed"),
            dtype=c.dtype,
            name="out",
        )(x)


class _Mlp(nn.Module):
    config: ViTConfig

    @nn.compact
    def __call__(self, x):
        c = self.config
        wide = functools.partial(
            nn.Dense,
            c.mlp_dim,
            dtype=c.dtype,
            kernel_init=named(_XAVIER, "embed", "mlp"),
            bias_init=named(nn.initializers.normal(1e-6), "mlp"),
        )
        y = wide(name="Dense_0")(x)
        if c.swiglu:
            y = nn.silu(wide(name="Dense_gate")(x)) * y
        else:
            y = nn.gelu(y, approximate=not c.exact_gelu)
        return nn.Dense(
            c.width,
            dtype=c.dtype,
            kernel_init=named(_XAVIER, "mlp", "embed"),
            bias_init=named(nn.initializers.normal(1e-6), "embed"),
            name="Dense_1",
        )(y)


class _Block(nn.Module):
    """Pre-norm block; AugReg numbers its four parts consecutively."""

    config: ViTConfig

    @nn.compact
    def __call__(self, x, deterministic: bool):
        c = self.config
        drop = nn.Dropout(c.dropout, deterministic=deterministic)
        y = _layer_norm(c, "LayerNorm_0")(x)
        y = _Attention(c, name="MultiHeadDotProductAttention_1")(y)
        x = x + drop(self._scaled(y, "LayerScale_1"))
        y = _layer_norm(c, "LayerNorm_2")(x)
        y = _Mlp(c, name="MlpBlock_3")(y)
        x = x + drop(self._scaled(y, "LayerScale_3"))
        return constrain(x, "batch", "length", "embed")

    def _scaled(self, x, name: str):
        if not self.config.layer_scale:
            return x
        init = named(nn.initializers.ones_init(), "norm")
        return x * self.param(name, init, x.shape[-1:], jnp.float32).astype(x.dtype)


def _layer_norm(c: ViTConfig, name: str) -> nn.LayerNorm:
    return nn.LayerNorm(
        epsilon=c.norm_epsilon,
        dtype=c.dtype,
        scale_init=named(nn.initializers.ones_init(), "norm"),
        bias_init=named(_ZEROS, "norm"),
        name=name,
    )


class _Transformer(nn.Module):
    config: ViTConfig

    @nn.compact
    def __call__(self, x, grid: int, deterministic: bool):
        c = self.config
        x = _PositionEmbedding(c, name="posembed_input")(x, grid)
        first = int(c.class_token)  # where the registers are
        if c.registers:
            init = named(nn.initializers.normal(0.02), None, None, "embed")
            shape = 1, c.registers, c.width
            registers = self.param("registers", init, shape, jnp.float32)
            registers = jnp.broadcast_to(
                registers.astype(x.dtype), (len(x), *shape[1:])
            )
            x = jnp.concatenate([x[:, :first], registers, x[:, first:]], axis=1)
        x = nn.Dropout(c.dropout, deterministic=deterministic)(x)
        names = [f"encoderblock_{i}" for i in range(c.depth)]
        if is_scanned(self):
            block = _Block(c, parent=None)
            x = scan_layers(self, block, names, x, deterministic=deterministic)
        else:
            block = _Block
            if c.remat:
                policy = policy_of(c.remat)
                block = nn.remat(_Block, static_argnums=(2,), policy=policy)
            for name in names:
                x = block(c, name=name)(x, deterministic)
        tokens: Any = x
        if c.registers:
            kept = tokens[:, :first], tokens[:, first + c.registers :]
            tokens = jnp.concatenate(kept, axis=1)
        return _layer_norm(c, "encoder_norm")(tokens)


class ViT(nn.Module):
    """Encodes images as tokens.

    Call:
      images: float[B, S, S, 3] in [-1, 1].
      deterministic: whether to disable dropout.

    Returns:
      dtype[B, N, D]: the normalised tokens, preceded by the class token, if any. Where
      `stem_output` is "features", these as they are, and D is the network's.
    """

    config: ViTConfig

    @nn.compact
    def __call__(self, images, *, deterministic: bool = True):
        c = self.config
        height, width = images.shape[1:3]
        if height != width or height % c.patch_size:
            raise ValueError(
                f"expected square images whose side is a multiple of "
                f"config.model.vit.patch_size={c.patch_size}, got {height}x{width}"
            )
        if c.stem_output == "features":
            x = NetworkFeatures(c.stem, c.dtype, name="embedding")(images)
            return x.reshape(x.shape[0], -1, x.shape[-1])
        # [B, S, S, 3] -> [B, G, G, D]
        stem = STEMS[c.stem](c.width, c.patch_size, c.dtype, name="embedding")
        x = stem(images.astype(c.dtype))
        batch, grid = x.shape[:2]
        x = x.reshape(batch, grid * grid, c.width)  # [B, G * G, D]
        if c.class_token:
            token = self.param(
                "cls", named(_ZEROS, None, None, "embed"), (1, 1, c.width), jnp.float32
            )
            token = jnp.broadcast_to(token.astype(c.dtype), (batch, 1, c.width))
            x = jnp.concatenate([token, x], axis=1)
        return _Transformer(c, name="Transformer")(x, grid, deterministic)
