"""Published weights of a stem: found, named, and refused where they do not fit."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rahf.checkpoints import provenance, start, stems
from rahf.models import resnet
from rahf.weights import efficientnet, matching
from tests.models.resnet_test import SMALL, shapes, written
from tests.parity import reference
from tests.support import tiny

NETWORK = "vit/embedding/network/"


def _config(stem: str, given: str):
    config = tiny.config()
    config.model.vit.stem, config.init_stem = stem, str(given)
    return config


def _fixture(origin: str):
    return np.load(reference.FIXTURES / f"resnet_{origin}.npz")


@pytest.fixture
def small(monkeypatch):
    for version, config in SMALL.items():
        monkeypatch.setitem(resnet.VERSIONS, version, config)


def test_a_users_file_replaces_the_network_and_nothing_else(small, tmp_path, capfd):
    path = written(_fixture("bit"), tmp_path / "BiT-M-R50x1.npz")
    config = _config("bit_r50x1", path)
    fresh = {
        NETWORK + name: jnp.zeros(shape) for name, shape in shapes("bit_r50x1").items()
    } | {"vit/embedding/out/kernel": jnp.ones(2)}
    found = matching.flatten(start.start_stem(config, matching.unflatten(fresh)))
    assert found.keys() == fresh.keys()
    assert all(np.any(found[name]) for name in found)
    np.testing.assert_array_equal(found["vit/embedding/out/kernel"], 1)
    assert f"bit_r50x1 from {path}" in capfd.readouterr().err
    assert provenance.make(config, 1)["weights"] == [f"bit_r50x1 from {path}"]


def test_efficientnet_takes_a_path_too():
    path = efficientnet.find("efficientnet_lite0")
    found = stems.read(_config("efficientnet_lite0", path), {})
    assert found["first/conv/kernel"].shape == (3, 3, 3, 32)


@pytest.mark.parametrize(
    ("stem", "given", "error"),
    [
        ("resnet50", "imagenet", "no package has weights of resnet50: set"),
        ("resnet50", "/no/where.pth", "'/no/where.pth': expected 'imagenet', ''"),
        ("patch", "/no/where.pth", "stem='patch' has no published weights"),
    ],
)
def test_what_cannot_be_started_from_is_refused_before_the_model_is_made(
    stem, given, error
):
    with pytest.raises(ValueError, match=re.escape(error)):
        start.check_start(_config(stem, given))


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (
            {"model_type": "resnet", "hidden_act": "gelu"},
            "hidden_act='gelu', not 'relu'",
        ),
        (
            {"downsample_in_bottleneck": True},
            "downsample_in_bottleneck=True, not False",
        ),
        ({"depths": [3, 4, 6, 3]}, re.escape("depths=[3, 4, 6, 3], not [2, 1, 1, 1]")),
        (
            {"architecture": "resnet50d.ra2_in1k"},
            "'resnet50d.ra2_in1k', not 'resnet50'",
        ),
        ({"architecture": "resnet50.a1_in1k"}, ""),
    ],
)
def test_the_config_beside_the_weights_is_compared(small, tmp_path, content, error):
    path = written(_fixture("hugging_face"), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(content))
    config = _config("resnet50", path)
    if not error:
        assert len(stems.read(config, shapes("resnet50"))) == len(shapes("resnet50"))
        return
    with pytest.raises(ValueError, match=f"config.json describes another.*{error}"):
        stems.read(config, shapes("resnet50"))


def test_a_run_names_whose_weights_it_began_with(small, tmp_path):
    path = written(_fixture("hugging_face"), tmp_path / "model.safetensors")
    assert stems.origin(_config("resnet50", path)) == f"resnet50 from {path}"
    assert stems.origin(_config("resnet50", "")) == ""
    assert stems.origin(_config("convolutions", "imagenet")) == ""
    assert jax.tree.leaves(
        stems.read(_config("resnet50", tmp_path), shapes("resnet50"))
    )
