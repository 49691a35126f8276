"""Stems, which turn an image into the ViT's patch tokens.

Shapes: B batch, S image side, P patch side, G = S / P grid side, D width.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from rahf.models import efficientnet, resnet
from rahf.models.partitioning import named
from rahf.models.vit_init import whitened_patches

_ZEROS = nn.initializers.zeros_init()
# The strides of the feature maps of a pretrained network that are read.
_STRIDES = (8, 16, 32)
_HE = named(nn.initializers.he_normal(), None, None, "conv_in", "conv_out")


def patch_stem(width: int, patch_size: int, dtype: Any, name: str) -> nn.Conv:
    """A linear map of each patch, as in AugReg: [B, S, S, 3] -> [B, G, G, D]."""
    side = (patch_size, patch_size)
    return nn.Conv(
        width,
        side,
        strides=side,
        padding="VALID",
        dtype=dtype,
        kernel_init=named(whitened_patches, None, None, None, "embed"),
        bias_init=named(_ZEROS, "embed"),
        name=name,
    )


class ConvolutionStem(nn.Module):
    """3x3 convolutions that halve the image until a pixel is a patch.

    Xiao et al., "Early Convolutions Help Transformers See Better" (2021); the residual
    convolutions between the first and the last halving are ours. A token sees past the
    edge of its patch, and a flaw looks the same wherever it is, so a model without
    pre-trained weights learns from far fewer images (docs/results.md). Published
    checkpoints have no weights for it.

    Call: dtype[B, S, S, 3] -> dtype[B, G, G, D].
    """

    width: int
    patch_size: int
    dtype: Any

    @nn.compact
    def __call__(self, x):
        halvings = self.patch_size.bit_length() - 1
        if 2**halvings != self.patch_size:
            raise ValueError(
                f"config.model.vit.stem='convolutions' halves the image repeatedly: "
                f"config.model.vit.patch_size={self.patch_size} must be a power of 2"
            )
        for i in range(halvings):
            # D / 4, D / 2, D, D for patches of 16.
            width = max(self.width >> max(halvings - 2 - i, 0), 8)
            x = self._convolve(x, width, 2, f"{i}")
            if 0 < i < halvings - 1:
                x = x + self._convolve(x, width, 1, f"{i}_residual")
        return nn.Dense(
            self.width,
            dtype=self.dtype,
            kernel_init=named(nn.initializers.lecun_normal(), None, "embed"),
            bias_init=named(_ZEROS, "embed"),
            name="out",
        )(x)

    def _convolve(self, x, width: int, stride: int, name: str):
        x = nn.Conv(
            width,
            (3, 3),
            strides=(stride, stride),
            dtype=self.dtype,
            kernel_init=_HE,
            name=f"conv_{name}",
        )(x)
        norm = nn.LayerNorm(
            epsilon=1e-6,
            dtype=self.dtype,
            scale_init=named(nn.initializers.ones_init(), "norm"),
            bias_init=named(_ZEROS, "norm"),
            name=f"norm_{name}",
        )
        return nn.relu(norm(x))


class NetworkStem(nn.Module):
    """A pretrained convolutional network whose feature maps are the patches.

    As in the hybrids of the ViT paper, which put a ResNet before the transformer. Three
    maps are read: at stride 8, which still has the edges that heatmaps follow; at 16,
    the grid of usual patches; and at 32, which knows objects best. Each is brought to
    the grid, finer ones by averaging, coarser ones bilinearly, and normalised, so that
    none outweighs the others; then one linear map.

    Call: dtype[B, S, S, 3] in [-1, 1] -> dtype[B, G, G, D].
    """

    width: int
    patch_size: int
    dtype: Any
    stem: str  # one of `NETWORKS`

    @nn.compact
    def __call__(self, images):
        grid = images.shape[1] // self.patch_size
        maps = NETWORKS[self.stem](self.stem, self.dtype, name="network")(images)
        found = []
        for stride in _STRIDES:
            x = to_grid(maps[stride], grid)
            norm = nn.LayerNorm(
                epsilon=1e-6,
                dtype=self.dtype,
                scale_init=named(nn.initializers.ones_init(), "norm"),
                bias_init=named(_ZEROS, "norm"),
                name=f"norm_{stride}",
            )
            found.append(norm(x))
        return nn.Dense(
            self.width,
            dtype=self.dtype,
            kernel_init=named(nn.initializers.lecun_normal(), None, "embed"),
            bias_init=named(_ZEROS, "embed"),
            name="out",
        )(jnp.concatenate(found, axis=-1))


class NetworkFeatures(nn.Module):
    """A pretrained network alone: the features that its own classifier would read.

    Call: dtype[B, S, S, 3] in [-1, 1] -> dtype[B, S / 32, S / 32, C]; C is 1,280 for
    EfficientNet-Lite and 2,048 for a ResNet.
    """

    stem: str  # one of `NETWORKS`
    dtype: Any

    @nn.compact
    def __call__(self, images):
        make = NETWORKS[self.stem]
        if self.stem in efficientnet.VERSIONS:
            make = functools.partial(make, top=True)
        return make(self.stem, self.dtype, name="network")(images)[_STRIDES[-1]]


def to_grid(x, grid: int):
    """Brings a feature map to a grid: dtype[B, H, H, C] -> [B, G, G, C]."""
    batch, side, _, channels = x.shape
    if side % grid == 0:
        share = side // grid
        return x.reshape(batch, grid, share, grid, share, channels).mean((2, 4))
    return jax.image.resize(x, (batch, grid, grid, channels), "bilinear")


#: The networks of `NetworkStem`, which have published weights.
NETWORKS = {
    **dict.fromkeys(efficientnet.VERSIONS, efficientnet.EfficientNetLite),
    **dict.fromkeys(resnet.VERSIONS, resnet.ResNet),
}
STEMS = {
    "patch": patch_stem,
    "convolutions": ConvolutionStem,
    **{name: functools.partial(NetworkStem, stem=name) for name in NETWORKS},
}


def has_batch_norm(stem: str) -> bool:
    """Returns whether a stem's network has batch norms, which have statistics."""
    version = resnet.VERSIONS.get(stem)
    return stem in efficientnet.VERSIONS or bool(version and not version.big_transfer)
