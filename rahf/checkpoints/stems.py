"""Published weights of a stem's network: where they come from, `config.init_stem`."""

import os

import numpy as np

from rahf.models import efficientnet as efficientnet_model
from rahf.models import resnet as resnet_model
from rahf.models.vit_stem import NETWORKS
from rahf.weights import (
    efficientnet,
    files,
    huggingface,
    huggingface_config,
    resnet,
)

IMAGENET = "imagenet"
# timm's names of what we call otherwise.
_OF_TIMM: dict[str, str] = {
    "bit_r50x1": "resnetv2_50x1_bit",
    "bit_r101x1": "resnetv2_101x1_bit",
}


def source(config) -> str:
    """Returns where a new run's network comes from.

    Returns:
      "" if it starts fresh, or there is none; "imagenet" for the weights of the extra
      `pretrained`; or the path of a file or folder.

    Raises:
      ValueError: `init_stem` names weights that do not exist, or that nothing reads.
    """
    stem, given = _stem(config), config.get("init_stem", IMAGENET)
    if stem not in NETWORKS:
        if given not in ("", IMAGENET):
            raise ValueError(
                f"config.init_stem={given!r}, but config.model.vit.stem={stem!r} has no "
                f"published weights; those with: {', '.join(NETWORKS)}"
            )
        return ""
    if given == IMAGENET and stem not in efficientnet_model.VERSIONS:
        raise ValueError(
            f"config.init_stem='imagenet', but no package has weights of {stem}: set "
            "config.init_stem to the path of yours (docs/weights.md), or to '' to start "
            "fresh"
        )
    if given not in ("", IMAGENET) and not files.exists(given):
        raise ValueError(
            f"config.init_stem={given!r}: expected 'imagenet', '' to start fresh, or "
            "the path of a file or folder of weights, which does not exist"
        )
    return given


def _stem(config) -> str:
    return config.model.get("vit", {}).get("stem", "patch")  # other models have none


def origin(config) -> str:
    """Returns what `source` is, in words, with the licence if it is known; or ""."""
    stem, given = _stem(config), source(config)
    if given == IMAGENET:
        return efficientnet.origin(stem)
    return f"{stem} from {os.path.abspath(given)}" if given else ""


def read(config, wanted: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Reads the parameters of a network from its `source`.

    Args:
      config: of which `source` is not "".
      wanted: the shapes of the network's parameters, by their names in it.

    Raises:
      MissingExtraError: the extra is not installed.
      ValueError: the weights are damaged, or of another network.
    """
    stem: str = config.model.vit.stem
    given = source(config)
    if stem in efficientnet_model.VERSIONS:
        path = efficientnet.find(stem) if given == IMAGENET else given
        top = any(name.startswith("last/") for name in wanted)
        names = dict(efficientnet_model.parameter_names(stem, top))
        return efficientnet.read(path, names)
    version = resnet_model.VERSIONS[stem]
    if huggingface.is_checkpoint(given):
        timm: str = _OF_TIMM.get(stem, stem)
        expected = {
            "depths": list(version.depths),
            "embedding_size": version.width,
            "hidden_act": "relu",
            "layer_type": "preactivation" if version.big_transfer else "bottleneck",
            "num_groups": version.groups,
            "global_padding": None,
            "downsample_in_bottleneck": False,
        }
        huggingface_config.check_network(given, stem, expected, timm)
    return resnet.read(given, wanted)
