"""ResNet and BiT say what PyTorch's networks say with the same weights."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from rahf.models import resnet
from rahf.weights import export_torch, matching
from rahf.weights import resnet as weights
from tests.parity import reference

SIDE, DEPTHS = 97, (2, 1, 1, 1)
SMALL = {
    "resnet50": resnet.ResNetConfig(DEPTHS, width=16),
    "bit_r50x1": resnet.ResNetConfig(DEPTHS, width=16, big_transfer=True, groups=4),
}


def shapes(version: str) -> dict[str, tuple[int, ...]]:
    """Our parameters of a network; nothing is computed."""
    network = resnet.ResNet(version)
    images = jnp.zeros((1, 32, 32, 3))
    found = jax.eval_shape(network.init, jax.random.key(0), images)
    flat = matching.flatten(nn.unbox(found)["params"])
    return {name: tuple(leaf.shape) for name, leaf in flat.items()}


def written(fixture, path):
    """Writes a fixture's weights in the format that its file is named after."""
    drawn = reference.draw_network(reference.names_and_shapes(fixture))
    if path.suffix == ".npz":
        np.savez(path, **drawn)
    elif path.suffix == ".safetensors":
        save_file(drawn, path)
    else:
        export_torch.write_state_dict(path, drawn)
    return path


# tests/parity/make_resnet.py made the fixtures.
@pytest.mark.parametrize(
    ("version", "origin", "file", "every"),
    [
        ("resnet50", "torchvision", "resnet50.pth", 16),
        ("resnet50", "hugging_face", "model.safetensors", 4),
        ("bit_r50x1", "bit", "BiT-M-R50x1.npz", 4),
        ("bit_r50x1", "timm_bit", "model.pth", 4),
        ("bit_r50x1", "hugging_face_bit", "model.safetensors", 4),
    ],
)
def test_features_equal_those_of_pytorch(
    version, origin, file, every, tmp_path, monkeypatch
):
    config = SMALL[version]
    if origin == "torchvision":  # has one width
        config = resnet.ResNetConfig(DEPTHS)
    monkeypatch.setitem(resnet.VERSIONS, version, config)
    fixture = np.load(reference.FIXTURES / f"resnet_{origin}.npz")
    path = written(fixture, tmp_path / file)
    params = matching.unflatten(weights.read(path, shapes(version)))
    picture = reference.picture(SIDE).astype(np.float32) / 127.5 - 1
    network = resnet.ResNet(version)
    maps = jax.jit(network.apply)({"params": params}, picture)
    assert sorted(maps) == [2, 4, 8, 16, 32]
    for stride in (8, 16, 32):
        theirs, ours = fixture[f"stride_{stride}"], maps[stride][..., ::every]
        largest = np.abs(theirs).max()
        np.testing.assert_allclose(ours / largest, theirs / largest, atol=1e-4)


@pytest.mark.parametrize(
    ("version", "count"),
    [
        # torchvision's 25,557,032, less the classifier's, and the statistics.
        ("resnet50", 25_557_032 - 2_049_000 + 2 * 26_560),
        ("resnet101", 44_549_160 - 2_049_000 + 2 * 52_672),
        # timm's resnetv2_50x1_bit and 101x1 with no classes.
        ("bit_r50x1", 23_500_352),
        ("bit_r101x1", 42_492_480),
    ],
)
def test_sizes_are_the_published_ones(version, count):
    assert sum(np.prod(shape) for shape in shapes(version).values()) == count


def test_a_fresh_unit_is_the_identity():
    unit, x = resnet._Unit(8, 1, jnp.float32), jnp.ones((1, 4, 4, 32))
    params = nn.unbox(unit.init(jax.random.key(0), x))
    np.testing.assert_array_equal(unit.apply(params, x), x)
