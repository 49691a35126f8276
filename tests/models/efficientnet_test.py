"""EfficientNet-Lite on ImageNet's weights says what PyTorch's says."""

import jax
import numpy as np
import pytest

from rahf.models import efficientnet
from rahf.weights import efficientnet as weights
from rahf.weights import matching
from tests.parity.reference import FIXTURES

# tests/parity/make_efficientnet.py made it with PyTorch 2.13.0.
THEIRS = np.load(FIXTURES / "efficientnet.npz")
SIDE = 97


@pytest.mark.parametrize("version", efficientnet.VERSIONS)
def test_features_equal_those_of_pytorch(version):
    generator = np.random.RandomState(0)
    picture = generator.randint(0, 256, (1, SIDE, SIDE, 3)).astype(np.float32)
    names = dict(efficientnet.parameter_names(version, top=True))
    params = matching.unflatten(weights.read(weights.find(version), names))
    network = efficientnet.EfficientNetLite(version, top=True)
    last = f"block_{len(efficientnet.list_blocks(version)) - 1}"

    @jax.jit
    def read(params, images):
        return network.apply(
            {"params": params},
            images,
            capture_intermediates=lambda module, _: module.name == last,
        )

    maps, inner = read(params, picture / 127.5 - 1)
    assert sorted(maps) == [2, 4, 8, 16, 32]
    top = maps[32]
    maps[32] = inner["intermediates"][last]["__call__"][0]
    for stride in (16, 32):
        theirs = THEIRS[f"{version.removeprefix('efficientnet_')}_{stride}"]
        np.testing.assert_allclose(maps[stride], theirs, atol=1e-4)
    # The last layer by its definition: 1x1 convolution, batch norm, ReLU6.
    norm = params["last"]["norm"]
    x = maps[32] @ params["last"]["conv"]["kernel"][0, 0] - norm["mean"]
    x = x / np.sqrt(norm["variance"] + 1e-3) * norm["scale"] + norm["bias"]
    assert top.shape == (1, 4, 4, 1280)
    np.testing.assert_allclose(top, np.clip(x, 0, 6), atol=1e-4)


@pytest.mark.parametrize(
    ("version", "blocks", "last"),
    [
        ("efficientnet_lite0", 16, 320),
        ("efficientnet_lite1", 21, 320),
        ("efficientnet_lite2", 21, 352),
    ],
)
def test_sizes_are_the_published_ones(version, blocks, last):
    found = efficientnet.list_blocks(version)
    assert (len(found), found[-1].channels) == (blocks, last)
