"""Reads ResNets and BiT: torchvision's, timm's and Hugging Face's, and BiT's `.npz`.

Our parameters are named as in `rahf.models.resnet`: "first/conv/kernel",
"stage1_unit_0/a/norm/scale".
"""

import dataclasses
import os
import re
from collections.abc import Mapping

import numpy as np

from rahf.weights import huggingface, npz, state_dict, values

Arrays = dict[str, np.ndarray]
Shapes = Mapping[str, tuple[int, ...]]

# Parts of a convolution and a norm, ours -> theirs.
_PYTORCH = {
    "kernel": ".weight",
    "raw_kernel": ".weight",
    "scale": ".weight",
    "bias": ".bias",
    "mean": ".running_mean",
    "variance": ".running_var",
}
_NPZ = {
    "raw_kernel": "/standardized_conv2d/kernel",
    "scale": "/group_norm/gamma",
    "bias": "/group_norm/beta",
}
_OURS = re.compile(
    r"(?:stage(\d+)_unit_(\d+)/)?(first|last|shortcut|[abc])(?:/conv|/norm)?/(\w+)"
)
_UNREAD = "num_batches_tracked"


@dataclasses.dataclass(frozen=True)
class Naming:
    """Someone's names of a network's parameters.

    Templates are given by the place of a convolution or norm: "first", "last",
    "shortcut", and "part" for those of a unit. Stages, units and parts count from 1 in
    {stage}, {unit}, {part}, and from 0 in {stage0}, ...; {letter} is a, b, c.

    Attributes:
      whose: whose they are, for errors.
      head: what the names of the classifier begin with.
      convolutions, norms: the templates.
      leaves: our leaves -> the ends of their names.
      prefix: with which all names may begin.
    """

    whose: str
    head: str
    convolutions: Mapping[str, str]
    norms: Mapping[str, str]
    leaves: Mapping[str, str] = dataclasses.field(default_factory=lambda: _PYTORCH)
    prefix: str = ""

    def name(self, ours: str) -> str:
        """Returns their name of one of our parameters."""
        found = _OURS.fullmatch(ours)
        assert found, ours
        stage, unit, place, leaf = found.groups(default="0")
        table = self.convolutions if leaf.endswith("kernel") else self.norms
        counts = {"stage": int(stage), "unit": int(unit) + 1}
        counts["part"] = "abc".find(place) + 1
        zero = {f"{key}0": count - 1 for key, count in counts.items()}
        template = table["part" if counts["part"] else place]
        return template.format(**counts, **zero, letter=place) + self.leaves[leaf]


_TORCHVISION = Naming(
    "torchvision's or timm's ResNet",
    "fc.",
    {
        "first": "conv1",
        "part": "layer{stage}.{unit0}.conv{part}",
        "shortcut": "layer{stage}.{unit0}.downsample.0",
    },
    {
        "first": "bn1",
        "part": "layer{stage}.{unit0}.bn{part}",
        "shortcut": "layer{stage}.{unit0}.downsample.1",
    },
)
_UNIT = "encoder.stages.{stage0}.layers.{unit0}"
_HUGGING_FACE = Naming(
    "Hugging Face's ResNet",
    "classifier.",
    {
        "first": "embedder.embedder.convolution",
        "part": _UNIT + ".layer.{part0}.convolution",
        "shortcut": _UNIT + ".shortcut.convolution",
    },
    {
        "first": "embedder.embedder.normalization",
        "part": _UNIT + ".layer.{part0}.normalization",
        "shortcut": _UNIT + ".shortcut.normalization",
    },
    prefix="resnet.",
)
_BIT = Naming(
    "BiT's .npz",
    "head/",
    {
        "first": "root_block",
        "part": "block{stage}/unit{unit:02}/{letter}",
        "shortcut": "block{stage}/unit{unit:02}/a/proj",
    },
    {"part": "block{stage}/unit{unit:02}/{letter}", "last": ""},
    _NPZ,
    prefix="resnet/",
)
_TIMM_BIT = Naming(
    "timm's BiT",
    "head.",
    {
        "first": "stem.conv",
        "part": "stages.{stage0}.blocks.{unit0}.conv{part}",
        "shortcut": "stages.{stage0}.blocks.{unit0}.downsample.conv",
    },
    {"part": "stages.{stage0}.blocks.{unit0}.norm{part}", "last": "norm"},
)
_HUGGING_FACE_BIT = Naming(
    "Hugging Face's BiT",
    "classifier.",
    {
        "first": "embedder.convolution",
        "part": _UNIT + ".conv{part}",
        "shortcut": _UNIT + ".downsample.conv",
    },
    {"part": _UNIT + ".norm{part}", "last": "norm"},
    prefix="bit.",
)
_OF_RESNET = (_TORCHVISION, _HUGGING_FACE)
_OF_BIT = (_BIT, _TIMM_BIT, _HUGGING_FACE_BIT)


def read(path: str | os.PathLike, wanted: Shapes) -> Arrays:
    """Reads the arrays of a network without its classifier, in Flax's layout.

    Args:
      path: a `.pth`, `.pt` or `.bin` file of PyTorch, `.safetensors`, the folder or
        index of sharded ones, or BiT's `.npz`.
      wanted: shapes of the network's parameters by name.

    Returns:
      float32 arrays, one for each name in `wanted`.

    Raises:
      ValueError: the file is damaged, or of another network.
    """
    where = os.fspath(path)
    given = _arrays(path, wanted)
    layouts = _OF_BIT if "first/raw_kernel" in wanted else _OF_RESNET
    layout, theirs = _recognise(where, given, layouts)
    found: Arrays = {}
    used = {n for n in theirs if n.startswith(layout.head) or n.endswith(_UNREAD)}
    for ours, shape in wanted.items():
        name = layout.name(ours).lstrip("/")
        if name not in theirs:
            raise ValueError(f"{where}: has no {name}; another network?")
        value = theirs[name]
        values.check_dtype(where, name, value.dtype)
        if value.ndim == 4 and layout is not _BIT:  # [out, in, height, width]
            value = value.transpose(2, 3, 1, 0)
        if value.shape != tuple(shape):
            raise ValueError(
                f"{where}: {name} has shape {list(theirs[name].shape)}, which is not "
                f"{list(shape)} turned; another size of network?"
            )
        found[ours] = np.asarray(value, np.float32)
        values.check_finite(where, name, found[ours])
        used.add(name)
    if left := sorted(theirs.keys() - used):
        raise ValueError(
            f"{where}: has {len(left)} tensors too many for this network, such as "
            f"{', '.join(left[:3])}; another network?"
        )
    return found


def _arrays(path: str | os.PathLike, wanted: Shapes) -> Arrays:
    if os.fspath(path).endswith(".npz"):
        return npz.read(path, wanted)
    if huggingface.is_checkpoint(path):
        return huggingface.read_safetensors(path)
    return state_dict.read(path)


def _recognise(
    where: str, given: Arrays, layouts: tuple[Naming, ...]
) -> tuple[Naming, Arrays]:
    """Returns whose layout it is, and the arrays without its prefix."""
    for layout in layouts:
        theirs = {name.removeprefix(layout.prefix): x for name, x in given.items()}
        kernel = "raw_kernel" if layout in _OF_BIT else "kernel"
        if layout.name(f"first/{kernel}") in theirs and len(theirs) == len(given):
            return layout, theirs
    raise ValueError(
        f"{where}: expected the names of {' or '.join(x.whose for x in layouts)}, got "
        f"{', '.join(sorted(given)[:3])}, ...; another network?"
    )
