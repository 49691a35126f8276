"""Weights of ResNet and BiT: every tensor has its place, others are refused."""

import json
import re

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from rahf.weights import export_torch, resnet

WANTED = {
    "first/conv/kernel": (7, 7, 3, 4),
    **{f"first/norm/{leaf}": (4,) for leaf in ("scale", "bias", "mean", "variance")},
    "stage2_unit_1/shortcut/conv/kernel": (1, 1, 4, 8),
}
THEIRS = {
    "conv1.weight": np.arange(588, dtype=np.float32).reshape(4, 3, 7, 7),
    "bn1.weight": np.ones(4, np.float32),
    "bn1.bias": np.zeros(4, np.float32),
    "bn1.running_mean": np.full(4, 2, np.float32),
    "bn1.running_var": np.full(4, 3, np.float32),
    "bn1.num_batches_tracked": np.array(5),
    "layer2.1.downsample.0.weight": np.ones((8, 4, 1, 1), np.float32),
    "fc.weight": np.ones((10, 8), np.float32),
}


def _read(tmp_path, **changes):
    state = {**THEIRS, **{k.replace("__", "."): v for k, v in changes.items()}}
    state = {name: value for name, value in state.items() if value is not None}
    export_torch.write_state_dict(tmp_path / "x.pth", state)
    return resnet.read(tmp_path / "x.pth", WANTED)


def test_axes_are_turned_and_the_classifier_is_left(tmp_path):
    found = _read(tmp_path)
    assert found.keys() == WANTED.keys()
    np.testing.assert_array_equal(
        found["first/conv/kernel"][2, 3, 1], THEIRS["conv1.weight"][:, 1, 2, 3]
    )
    assert (found["first/norm/mean"] == 2).all()
    assert (found["first/norm/variance"] == 3).all()


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"bn1__bias": None}, "has no bn1.bias; another network?"),
        ({"bn1__bias": np.ones(5, np.float32)}, "shape [5], which is not [4]"),
        ({"bn1__bias": np.ones(4, np.int32)}, "expected floating point"),
        ({"bn1__bias": np.full(4, np.nan, np.float32)}, "holds NaN"),
        ({"layer1__0__se": np.ones(1, np.float32)}, "1 tensors too many"),
        ({"conv1__weight": None}, "expected the names of torchvision's or timm's"),
    ],
)
def test_other_networks_are_refused(changes, error, tmp_path):
    with pytest.raises(ValueError, match=re.escape(error)):
        _read(tmp_path, **changes)


def test_bfloat16_and_sharded_files_are_read(tmp_path):
    half = {
        name: value.astype(ml_dtypes.bfloat16) if value.ndim else value
        for name, value in THEIRS.items()
    }
    names = sorted(half)
    for i in range(2):
        part = {name: half[name] for name in names[i::2]}
        save_file(part, tmp_path / f"model-0000{i + 1}-of-00002.safetensors")
    index = {
        n: f"model-0000{i % 2 + 1}-of-00002.safetensors" for i, n in enumerate(names)
    }
    (tmp_path / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": index})
    )
    found = resnet.read(tmp_path, WANTED)
    assert all(value.dtype == np.float32 for value in found.values())
    np.testing.assert_allclose(
        found["first/conv/kernel"],
        THEIRS["conv1.weight"].transpose(2, 3, 1, 0),
        rtol=2**-8,
    )
