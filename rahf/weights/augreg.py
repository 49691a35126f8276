"""Reads a ViT from the `.npz` files of AugReg (vision_transformer) and big_vision.

AugReg's names are this project's. big_vision numbers the parts of a block differently,
keeps the position embedding elsewhere, and may have scanned layers (axis 0).
"""

import contextlib
import dataclasses
import io
import math
import os
import re
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Mapping

import ml_dtypes
import numpy as np

from rahf.weights import files, values

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
    for given, value in _load(path, wanted).items():
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


def _load(path: str | os.PathLike, wanted: Shapes | None) -> Arrays:
    where, data = os.fspath(path), files.read(path)
    with _report_damage(where, len(data)):
        archive = zipfile.ZipFile(io.BytesIO(data))
        headers = [_read_header(archive, member) for member in archive.infolist()]
    shapes: dict[str, tuple[int, ...]] = {}
    for header in headers:
        if header.name in shapes:
            raise ValueError(f"{where}: {header.name} appears twice")
        if header.dtype.hasobject:
            raise ValueError(
                f"{where}: {header.name} holds pickled objects, which are not read"
            )
        if header.dtype.itemsize > 16:  # strings or records, of any length
            raise ValueError(
                f"{where}: {header.name} has dtype {header.dtype}, expected numbers"
            )
        shapes[header.name] = header.shape
    values.check_count(where, shapes, wanted)
    arrays = {}
    with _report_damage(where, len(data)), archive:
        for header in headers:
            with archive.open(header.member) as file:
                array = np.lib.format.read_array(file, allow_pickle=False)
            arrays[header.name] = array
    return arrays


@dataclasses.dataclass(frozen=True)
class _Header:
    """How an archive describes an array."""

    member: zipfile.ZipInfo
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype


def _read_header(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> _Header:
    """Reads an array's header, and checks that its size agrees with its shape."""
    name = member.filename
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{name} is compressed in a way that numpy does not use")
    with archive.open(member) as file:
        if file.read(6) != b"\x93NUMPY":
            raise ValueError(f"{name} is not an array")
        file.seek(0)
        version = np.lib.format.read_magic(file)
        old = np.lib.format.read_array_header_1_0
        read = old if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
        size = member.file_size - file.tell()
    if not dtype.hasobject and size != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{name} has {size} bytes for {list(shape)} of {dtype}")
    return _Header(member, name.removesuffix(".npy"), shape, dtype)


@contextlib.contextmanager
def _report_damage(where: str, size: int) -> Iterator[None]:
    """Turns errors of zipfile, zlib and numpy into one that names the file."""
    try:
        yield
    except (
        *(zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError),
        *(ValueError, TypeError, RuntimeError, SyntaxError, tokenize.TokenError),
        MemoryError,
    ) as error:
        raise ValueError(
            f"{where} ({size} bytes) is not a complete .npz file of arrays ({error}); "
            "is it a git-lfs pointer, or was a download interrupted?"
        ) from error
