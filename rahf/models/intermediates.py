"""What happens inside the model, by name, for whoever explains or probes it."""

from typing import Any

import jax.numpy as jnp

from rahf.models.rahf import RAHF
from rahf.models.t5_layers import INTERMEDIATES


def intermediates(model: RAHF, params, batch: dict[str, Any]) -> dict[str, Any]:
    """Encodes a batch and returns every named intermediate.

    Args:
      model: from `make_model`; without `config.model.remat`.
      params: its parameters.
      batch: with `image` uint8[B, S, S, 3] and `inputs` int32[B, L].

    Returns:
      `image_tokens` dtype[B, N, D], out of the ViT, as T5's encoder reads them;
      `feature_map` dtype[B, G, G, D], out of the encoder, as the heads read it;
      `memory` dtype[B, M, D] and `memory_mask` bool[B, M], what the decoder attends to;
      `words_to_patches` float32[B, E, H, L, G, G], how each of the E encoder layers' H
      heads weighs the image's patches for each piece of the text (a piece also attends
      to the text, so the weights of the patches sum to less than 1). The variant
      "image", which reads no text, has none.
    """

    def encode(module: RAHF):
        tokens = module.encode_image(batch["image"])
        return tokens, module.encode(tokens, batch["inputs"])

    found: Any = model.apply({"params": params}, method=encode, mutable=[INTERMEDIATES])
    (tokens, encoding), shown = found
    named = {
        "image_tokens": tokens,
        "feature_map": encoding.feature_map,
        "memory": encoding.memory,
        "memory_mask": encoding.memory_mask,
    }
    if model.config.variant == "image":
        return named
    layers = shown[INTERMEDIATES]["t5"]["encoder"]
    weights = jnp.stack(
        [
            layers[f"layers_{i}"]["attention"]["weights"][0]
            for i in range(model.config.t5.encoder_layers)
        ],
        axis=1,
    )  # [B, E, H, N + L, N + L]
    image, side = tokens.shape[1], encoding.feature_map.shape[1]
    patches = weights[..., image:, image - side * side : image]
    patches = patches.reshape(*patches.shape[:-1], side, side)
    return named | {"words_to_patches": patches}
