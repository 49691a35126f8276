"""A ViT from the `.npz` files of AugReg (vision_transformer) and big_vision.

AugReg's names are this project's. big_vision's differ in how it counts the parts of a
block, in where the position embedding is, and may have scanned layers (axis 0).
"""

import io
import os
import re
import zipfile
import zlib

import ml_dtypes
import numpy as np

from rahf.weights import files

# big_vision's count of a block's parts -> AugReg's.
_PARTS = {
    "LayerNorm_1/": "LayerNorm_2/",
    "MultiHeadDotProductAttention_0/": "MultiHeadDotProductAttention_1/",
    "MlpBlock_0/": "MlpBlock_3/",
}
_POSITIONS = "Transformer/posembed_input/pos_embedding"
#: Of models in which the image's encoder is one part: what may come before its names.
_PREFIXES = ("opt/target/", "params/", "img/")


def read(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Reads a ViT under this project's names.

    Args:
      path: a `.npz` file, local, gs:// or s3://.

    Returns:
      Flat parameters, {"vit/cls": float32[1, 1, D]}; classifiers are among them.

    Raises:
      ValueError: it is no `.npz` of arrays, or holds no ViT.
    """
    flat = {}
    for name, value in _load(path).items():
        for prefix in _PREFIXES:
            name = name.removeprefix(prefix)
        if value.dtype.kind == "V" and value.dtype.itemsize == 2:
            value = value.view(ml_dtypes.bfloat16)  # numpy's files cannot name it
        flat["pos_embedding" if name == _POSITIONS else name] = value
    if "embedding/kernel" not in flat:
        raise ValueError(
            f"{os.fspath(path)} holds no ViT of AugReg or big_vision: expected an array "
            f"'embedding/kernel', got {', '.join(sorted(flat)[:4]) or 'nothing'}, ..."
        )
    arrays = {}
    for name, value in flat.items():
        if scanned := re.fullmatch(r"Transformer/encoderblock/(.+)", name):
            for i, part in enumerate(value):
                arrays[f"Transformer/encoderblock_{i}/{scanned[1]}"] = part
        else:
            arrays[_POSITIONS if name == "pos_embedding" else name] = value
    return {f"vit/{_augreg_name(name)}": x for name, x in arrays.items()}


def _augreg_name(name: str) -> str:
    if name.startswith("Transformer/encoderblock_"):
        for theirs, ours in _PARTS.items():
            name = name.replace(f"/{theirs}", f"/{ours}")
    return name


def _load(path: str | os.PathLike) -> dict[str, np.ndarray]:
    data = files.read(path)
    try:
        if not data.startswith(b"PK"):  # numpy would take it for a pickle
            raise zipfile.BadZipFile(f"its {len(data)} bytes are no zip file")
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        if odd := [n for n, x in arrays.items() if not isinstance(x, np.ndarray)]:
            raise zipfile.BadZipFile(f"{odd[0]} is no array")
        return arrays
    except (
        *(zipfile.BadZipFile, zlib.error, EOFError),
        *(AttributeError, OSError, NotImplementedError),
    ) as error:
        raise ValueError(
            f"{os.fspath(path)} is not a whole .npz file of arrays ({error}); a git-lfs "
            "pointer or a cut download?"
        ) from error
    except ValueError as error:  # numpy's, where an array is pickled objects
        raise ValueError(f"{os.fspath(path)}: {error}") from error
