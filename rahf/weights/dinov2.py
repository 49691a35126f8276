"""Reads DINOv2's ViTs: Meta's `.pth` files, and Hugging Face's.

Beside a ViT's parameters they have layer scales, and some have register tokens, or a
gated MLP. Three ways of naming exist: Meta's, that of the hub's files, and that of
transformers 5. The first two are brought to the last, and from there to ours.
"""

import os
import re
from collections.abc import Mapping

import numpy as np

from rahf.weights import state_dict, values
from rahf.weights.export_layout import CONV, JOIN, LINEAR, SAME, SPLIT, Layout

Arrays = dict[str, np.ndarray]
Shapes = Mapping[str, tuple[int, ...]]

# Meta's and the hub's names -> those of transformers 5, applied one after the other.
_RENAMED = (
    (r"^(dinov2|dinov2_with_registers|vit|module|backbone)\.", ""),
    (r"^blocks\.(\d+\.)?(\d+)\.", r"encoder.layer.\2."),  # some are in chunks
    (r"^(cls_token|register_tokens|mask_token)$", r"embeddings.\1"),
    (r"^pos_embed$", "embeddings.position_embeddings"),
    (r"^patch_embed\.proj\.", "embeddings.patch_embeddings.projection."),
    (r"^norm\.", "layernorm."),
    (r"\.ls([12])\.gamma$", r".layer_scale\1.lambda1"),
    (r"\.attn\.proj\.", ".attention.o_proj."),
    (r"\.attention\.output\.dense\.", ".attention.o_proj."),
    (r"\.attention\.attention\.(q|k|v)\w+\.", r".attention.\1_proj."),
    (r"\.mlp\.(w12|weights_in)\.", ".mlp.gate_up_proj."),
    (r"\.mlp\.(w3|weights_out)\.", ".mlp.down_proj."),
)
# What was fused -> its parts, along the first axis.
_FUSED = {
    ".attn.qkv.": (".attention.q_proj.", ".attention.k_proj.", ".attention.v_proj."),
    ".mlp.gate_up_proj.": (".mlp.gate_proj.", ".mlp.up_proj."),
}
_BLOCK = "Transformer/encoderblock_"
_ATTENTION = "MultiHeadDotProductAttention_1"
# Our parameters outside of blocks, and our modules in them -> theirs.
_SINGLE: dict[str, tuple[str, Layout]] = {
    "cls": ("embeddings.cls_token", SAME),
    "Transformer/registers": ("embeddings.register_tokens", SAME),
    "Transformer/posembed_input/pos_embedding": (
        "embeddings.position_embeddings",
        SAME,
    ),
    "embedding/kernel": ("embeddings.patch_embeddings.projection.weight", CONV),
    "embedding/bias": ("embeddings.patch_embeddings.projection.bias", SAME),
    "Transformer/encoder_norm/scale": ("layernorm.weight", SAME),
    "Transformer/encoder_norm/bias": ("layernorm.bias", SAME),
}
_IN_BLOCK: dict[str, tuple[str, Layout]] = {
    "LayerScale_1": ("layer_scale1.lambda1", SAME),
    "LayerScale_3": ("layer_scale2.lambda1", SAME),
    "LayerNorm_0/scale": ("norm1.weight", SAME),
    "LayerNorm_0/bias": ("norm1.bias", SAME),
    "LayerNorm_2/scale": ("norm2.weight", SAME),
    "LayerNorm_2/bias": ("norm2.bias", SAME),
    f"{_ATTENTION}/out/kernel": ("attention.o_proj.weight", JOIN),
    f"{_ATTENTION}/out/bias": ("attention.o_proj.bias", SAME),
    **{
        f"{_ATTENTION}/{ours}/{leaf}": (f"attention.{ours[0]}_proj.{theirs}", SPLIT)
        for ours in ("query", "key", "value")
        for leaf, theirs in (("kernel", "weight"), ("bias", "bias"))
    },
}
_PLAIN = {"Dense_0": "fc1", "Dense_1": "fc2"}
_GATED = {"Dense_gate": "gate_proj", "Dense_0": "up_proj", "Dense_1": "down_proj"}
_UNREAD = "embeddings.mask_token"  # of masked training alone


def is_dinov2(state: Mapping[str, np.ndarray]) -> bool:
    """Returns whether a state dict is that of a DINOv2."""
    return any(re.search(r"layer_scale1\.lambda1$|ls1\.gamma$", name) for name in state)


def read(path: str | os.PathLike, wanted: Shapes) -> Arrays:
    """Reads Meta's `.pth`.

    Args:
      path: the file.
      wanted: shapes of the model's parameters, "vit/..."; they determine the number of
        heads.

    Returns:
      Flat tensors under this project's names; unknown ones keep their own.

    Raises:
      ValueError: it is damaged, or no DINOv2.
    """
    state = state_dict.read(path)
    if not is_dinov2(state):
        raise ValueError(
            f"{os.fspath(path)}: expected a DINOv2, with layer scales; its first names "
            f"are {', '.join(list(state)[:3])}"
        )
    shapes = {k: v for k, v in wanted.items() if k.startswith("vit/")}
    return convert(state, shapes, os.fspath(path))


def convert(state: Mapping[str, np.ndarray], wanted: Shapes, source: str) -> Arrays:
    """Returns the arrays of a DINOv2 by our names; unknown ones keep theirs.

    Raises:
      ValueError: a name appears twice, or the model has no layer scales, or another
        number of registers.
    """
    if not any("/LayerScale_1" in name for name in wanted):
        raise ValueError(
            f"{source} is a DINOv2, with layer scales, but "
            "config.model.vit.layer_scale=False (set --config.model.vit.layer_scale=True)"
        )
    theirs = _renamed(state, source)
    registers = theirs.get("embeddings.register_tokens", np.zeros((1, 0, 1))).shape[1]
    ours = wanted.get("vit/Transformer/registers", (1, 0, 1))[1]
    if registers != ours:
        raise ValueError(
            f"{source} has {registers} register tokens, but config.model.vit.registers="
            f"{ours} (set --config.model.vit.registers={registers})"
        )
    gated = any(name.endswith("mlp.gate_proj.weight") for name in theirs)
    found, used = {}, {_UNREAD}
    for ours, shape in wanted.items():
        name, turn = _their_name(ours.removeprefix("vit/"), gated)
        if name not in theirs:
            continue
        used.add(name)
        value = np.asarray(theirs[name])
        values.check_dtype(source, name, value.dtype)
        found[ours] = _turn(turn, value, tuple(shape))
    # A place in the ViT's stack makes what is left over an error.
    left = {f"vit.{name}": x for name, x in theirs.items() if name not in used}
    return found | left


def _turn(turn: Layout, value: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Rearranges the axes; leaves an array of another size for the report to show."""
    if turn is SAME:
        return value
    if turn is LINEAR:
        return value.T
    if turn is CONV:  # of any patch side
        return value.transpose(2, 3, 1, 0) if value.ndim == 4 else value
    try:
        return turn.back(value, shape)
    except ValueError:
        return value


def _renamed(state: Mapping[str, np.ndarray], source: str) -> Arrays:
    theirs: Arrays = {}
    for given, value in state.items():
        name = given
        for pattern, new in _RENAMED:
            name = re.sub(pattern, new, name)
        parts = {name: value}
        for fused, names in _FUSED.items():
            if fused in name and value.shape[0] % len(names) == 0:
                pieces = np.split(value, len(names))
                parts = {
                    name.replace(fused, part): x
                    for part, x in zip(names, pieces, strict=True)
                }
        for part, x in parts.items():
            if part in theirs:
                raise ValueError(f"{source}: {part} appears twice, once as {given}")
            theirs[part] = x
    return theirs


def _their_name(ours: str, gated: bool) -> tuple[str, Layout]:
    """Returns the name and the layout of one of our parameters; "" if there is none."""
    if ours in _SINGLE:
        return _SINGLE[ours]
    if not ours.startswith(_BLOCK):
        return "", SAME
    number, _, rest = ours.removeprefix(_BLOCK).partition("/")
    block = f"encoder.layer.{number}."
    if rest in _IN_BLOCK:
        name, turn = _IN_BLOCK[rest]
        return block + name, turn
    if found := re.fullmatch(r"MlpBlock_3/(\w+)/(kernel|bias)", rest):
        theirs = (_GATED if gated else _PLAIN).get(found[1], found[1])
        kernel = found[2] == "kernel"
        leaf = "weight" if kernel else "bias"
        return f"{block}mlp.{theirs}.{leaf}", LINEAR if kernel else SAME
    return "", SAME
