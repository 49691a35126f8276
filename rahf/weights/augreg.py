"""Reads a ViT from the `.npz` files of AugReg (vision_transformer) and big_vision.

AugReg's names are this project's. big_vision numbers the parts of a block differently,
keeps the position embedding elsewhere, and may have scanned layers (axis 0).
"""

import os
import re
from collections.abc import Mapping

import ml_dtypes
import numpy as np

from rahf.weights import npz, values

Arrays = dict[str, np.ndarray]
Shapes = Mapping[str, tuple[int, ...]]

# big_vision's numbering of a block's parts -> AugReg's.
_PARTS = {
    "LayerNorm_1/": "LayerNorm_2/",
    "MultiHeadDotProductAttention_0/": "MultiHeadDotProductAttention_1/",
    "MlpBlock_0/": "MlpBlock_3/",
}
_POSITIONS = "Transformer/posembed_input/pos_embedding"
#: Prefixes of the names if the image encoder is part of a larger model.
_PREFIXES = ("opt/target/", "params/", "img/")


def read(path: str | os.PathLike, wanted: Shapes | None = None) -> Arrays:
    """Reads a ViT under this project's names.

    Args:
      path: an `.npz` file, local, gs:// or s3://.
      wanted: shapes of the model's parameters; a file that describes far larger arrays
        is refused before it is unpacked.

    Returns:
      Flat parameters, {"vit/cls": float32[1, 1, D]}, including any classifier.

    Raises:
      ValueError: it is not an `.npz` of arrays, or holds no ViT.
    """
    where = os.fspath(path)
    flat: Arrays = {}
    for given, value in npz.read(path, wanted).items():
        name = given
        for prefix in _PREFIXES:
            name = name.removeprefix(prefix)
        if value.dtype.kind == "V" and value.dtype.itemsize == 2:
            value = value.view(ml_dtypes.bfloat16)  # numpy's files cannot name it
        name = "pos_embedding" if name == _POSITIONS else name
        if name in flat:
            raise ValueError(f"{where}: {name} appears twice, once as {given}")
        flat[name] = value
    if "embedding/kernel" not in flat:
        raise ValueError(
            f"{where} holds no AugReg or big_vision ViT: expected an array "
            f"'embedding/kernel', got {', '.join(sorted(flat)[:4]) or 'nothing'}, ..."
        )
    arrays = {}
    for name, value in flat.items():
        if scanned := re.fullmatch(r"Transformer/encoderblock/(.+)", name):
            for i in range(values.count_layers(where, name, value, 0)):
                arrays[f"Transformer/encoderblock_{i}/{scanned[1]}"] = value[i]
        else:
            arrays[_POSITIONS if name == "pos_embedding" else name] = value
    return {f"vit/{_augreg_name(name)}": x for name, x in arrays.items()}


def _augreg_name(name: str) -> str:
    if name.startswith("Transformer/encoderblock_"):
        for theirs, ours in _PARTS.items():
            name = name.replace(f"/{theirs}", f"/{ours}")
    return name
