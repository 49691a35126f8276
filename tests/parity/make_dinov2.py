"""Makes fixtures of DINOv2: what transformers' networks say, with drawn weights.

    python -m venv torchvenv
    torchvenv/bin/pip install torch==2.14.1 transformers==5.24.0
    PYTHONPATH=. torchvenv/bin/python tests/parity/make_dinov2.py

Writes dinov2.npz: tokens of two small networks, one with register tokens and one with a
gated MLP, for a picture of noise; and the names and shapes of their weights, which are
drawn from their names (`reference.draw_vit`).
"""

import numpy as np
import torch
import transformers

from tests.parity import reference

SIDE = 42  # 3 x 3 patches
SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": SIDE,
    "patch_size": 14,
}


def main() -> None:
    networks = {
        "registers": transformers.Dinov2WithRegistersModel(
            transformers.Dinov2WithRegistersConfig(**SIZES)
        ),
        "gated": transformers.Dinov2Model(
            transformers.Dinov2Config(**SIZES, use_swiglu_ffn=True)
        ),
    }
    image = reference.picture(SIDE).astype(np.float32) / 127.5 - 1
    pixels = torch.from_numpy(image).permute(0, 3, 1, 2)
    kept = {}
    for name, network in networks.items():
        shapes = {key: list(x.shape) for key, x in network.state_dict().items()}
        drawn = reference.draw_vit(shapes)
        network.load_state_dict({k: torch.from_numpy(x) for k, x in drawn.items()})
        network.eval()
        with torch.no_grad():
            tokens = network(pixels).last_hidden_state.numpy()
        if name == "registers":  # class, registers, patches
            tokens = np.concatenate([tokens[:, :1], tokens[:, 5:]], axis=1)
        kept |= {
            f"{name}_tokens": tokens,
            f"{name}_about": reference.pack_names(shapes),
        }
    np.savez_compressed(reference.FIXTURES / "dinov2.npz", **kept)


if __name__ == "__main__":
    main()
