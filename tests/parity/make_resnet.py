"""Makes fixtures of ResNet and BiT: what PyTorch's networks say, with drawn weights.

    python -m venv torchvenv
    torchvenv/bin/pip install torch==2.14.1 torchvision==0.29.1 timm==1.0.31 \
        transformers==5.24.0
    PYTHONPATH=. torchvenv/bin/python tests/parity/make_resnet.py

Writes resnet_*.npz: the maps at strides 8, 16 and 32 of a picture of noise, of an odd
side, so that the padding shows, every few channels of them; and the names and shapes
of the weights, which are drawn from their names (`reference.draw_network`). The
networks have fewer units than the published ones, some also fewer channels.
"""

import functools
import pathlib
import tempfile

import numpy as np
import timm
import torch
import torchvision
import transformers
from timm.layers import GroupNormAct, StdConv2d
from timm.models import resnetv2

from tests.parity import reference

SIDE, DEPTHS = 97, [2, 1, 1, 1]
CHANNELS = [64, 128, 256, 512]  # of the outputs of a network of width 16
MEAN, DEVIATION = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def pixels(imagenet: bool) -> torch.Tensor:
    image = reference.picture(SIDE) / 255
    image = (image - MEAN) / DEVIATION if imagenet else image * 2 - 1
    return torch.from_numpy(image.astype(np.float32)).permute(0, 3, 1, 2)


def load(network: torch.nn.Module) -> dict[str, list[int]]:
    """Gives a network its drawn weights, and returns their names and shapes."""
    state = network.state_dict()
    shapes = {name: list(x.shape) for name, x in state.items() if x.ndim}
    drawn = reference.draw_network(shapes)
    weights = {name: torch.from_numpy(value) for name, value in drawn.items()}
    network.load_state_dict(weights, strict=False)
    network.eval()
    return shapes


def write(name: str, shapes, maps: list[torch.Tensor], every: int) -> None:
    kept = {
        f"stride_{8 << i}": x.detach().permute(0, 2, 3, 1).numpy()[..., ::every]
        for i, x in enumerate(maps)
    }
    about = reference.pack_names(shapes)
    path = reference.FIXTURES / f"resnet_{name}.npz"
    np.savez_compressed(path, about=about, **kept)


def of_torchvision() -> None:
    bottleneck = torchvision.models.resnet.Bottleneck
    network = torchvision.models.ResNet(bottleneck, DEPTHS, num_classes=10)
    shapes = load(network)
    x = network.maxpool(network.relu(network.bn1(network.conv1(pixels(True)))))
    maps = []
    for layer in (network.layer1, network.layer2, network.layer3, network.layer4):
        maps.append(x := layer(x))
    write("torchvision", shapes, maps[1:], 16)


def of_hugging_face() -> None:
    sizes = {"embedding_size": 16, "hidden_sizes": CHANNELS, "depths": DEPTHS}
    network = transformers.ResNetForImageClassification(
        transformers.ResNetConfig(**sizes, num_labels=10)
    )
    shapes = load(network)
    found = network(pixels(True), output_hidden_states=True)
    write("hugging_face", shapes, list(found.hidden_states[2:]), 4)


def of_hugging_face_bit() -> None:
    sizes = {"embedding_size": 16, "hidden_sizes": CHANNELS, "depths": DEPTHS}
    network = transformers.BitForImageClassification(
        transformers.BitConfig(**sizes, num_groups=4, num_labels=10)
    )
    shapes = load(network)
    # Of the hidden states, the last is not normed.
    found = network.bit(pixels(False), output_hidden_states=True)
    maps = [*found.hidden_states[2:4], found.last_hidden_state]
    write("hugging_face_bit", shapes, maps, 4)


def bit(classes: int = 10) -> resnetv2.ResNetV2:
    return resnetv2.ResNetV2(
        DEPTHS,
        channels=tuple(CHANNELS),
        stem_chs=16,
        stem_type="fixed",
        num_classes=classes,
        norm_layer=functools.partial(GroupNormAct, num_groups=4),
        conv_layer=functools.partial(StdConv2d, eps=1e-10),
    )


def bit_maps(network: resnetv2.ResNetV2) -> list[torch.Tensor]:
    x, maps = network.stem(pixels(False)), []
    for stage in network.stages:
        maps.append(x := stage(x))
    return [*maps[1:3], network.norm(maps[3])]


def of_timm_bit() -> None:
    network = bit()
    write("timm_bit", load(network), bit_maps(network), 4)


def npz_shapes(network: resnetv2.ResNetV2) -> dict[str, list[int]]:
    """The names of BiT's files and their shapes; timm's reader checks them."""
    shapes: dict[str, list[int]] = {"resnet/head/conv2d/bias": [10]}

    def add(module: str, conv=None, norm=None):
        if conv is not None:
            out, inputs, *sides = conv.weight.shape
            turned = [*sides, inputs, out]
            shapes[f"resnet/{module}standardized_conv2d/kernel"] = turned
        if norm is not None:
            for part in ("gamma", "beta"):
                name = f"resnet/{module}group_norm/{part}"
                shapes[name] = list(norm.weight.shape)

    add("root_block/", conv=network.stem.conv)
    add("", norm=network.norm)
    for i, stage in enumerate(network.stages):
        for j, block in enumerate(stage.blocks):
            unit = f"block{i + 1}/unit{j + 1:02d}/"
            add(unit + "a/", block.conv1, block.norm1)
            add(unit + "b/", block.conv2, block.norm2)
            add(unit + "c/", block.conv3, block.norm3)
            if block.downsample is not None:
                add(unit + "a/proj/", block.downsample.conv)
    return shapes


def of_bit() -> None:
    network = bit(classes=0).eval()
    shapes = npz_shapes(network)
    with tempfile.TemporaryDirectory() as folder:
        path = str(pathlib.Path(folder) / "bit.npz")
        np.savez(path, **reference.draw_network(shapes))
        resnetv2._load_weights(network, path)
    write("bit", shapes, bit_maps(network), 4)


if __name__ == "__main__":
    print(timm.__version__, torchvision.__version__, transformers.__version__)
    of_torchvision()
    of_hugging_face()
    of_hugging_face_bit()
    of_timm_bit()
    of_bit()
