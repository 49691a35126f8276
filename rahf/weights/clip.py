"""Reads CLIP: OpenAI's `.pt`, Hugging Face's folders, open_clip's files.

OpenAI's files are TorchScript archives in float16, or state dicts; open_clip's have the
same names. Hugging Face's have names of their own, and matrices the other way round.
None needs PyTorch or transformers, and no code in them is run.
"""

import dataclasses
import json
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from etils import epath

from rahf.weights import huggingface, state_dict, values

Arrays = dict[str, np.ndarray]

#: Files of weights in a folder, in the order of preference.
_FILES = (
    "model.safetensors.index.json",
    "model.safetensors",
    "pytorch_model.bin",
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.bin",
)
#: Beside weights: sizes of Hugging Face's models, and of open_clip's.
CONFIG_FILE, OPEN_CLIP_CONFIG_FILE = "config.json", "open_clip_config.json"
#: Buffers, and what newer files of open_clip have around the text tower.
_IGNORED = re.compile(r".*position_ids|attn_mask|text\.attn_mask|input_resolution")
_LAYER_PARTS = {  # ours -> (OpenAI's and open_clip's, Hugging Face's)
    "norm_1": ("ln_1", "layer_norm1"),
    "norm_2": ("ln_2", "layer_norm2"),
    "mlp/in": ("mlp.c_fc", "mlp.fc1"),
    "mlp/out": ("mlp.c_proj", "mlp.fc2"),
    "attention/out": ("attn.out_proj", "self_attn.out_proj"),
}


@dataclasses.dataclass(frozen=True)
class ClipWeights:
    """The weights of a CLIP under this project's names, and what else is known of it.

    Attributes:
      arrays: flat float32 parameters, {"image/projection": [D, E]}.
      known: the fields of `rahf.models.clip.ClipConfig.from_shapes` that files beside
        the weights tell: activation, image_heads, text_heads, end_id, norm_epsilon.
      mean, deviation: float, one for each colour, where a file beside them tells.
    """

    arrays: Arrays
    known: dict[str, Any]
    mean: tuple[float, ...] | None = None
    deviation: tuple[float, ...] | None = None


def read(path: str | os.PathLike) -> ClipWeights:
    """Reads the weights of a CLIP whose image tower is a ViT.

    Args:
      path: a `.pt`, `.bin` or `.safetensors` file, or a folder from the hub.

    Returns:
      The weights. `known` has no "activation" where nothing tells it.

    Raises:
      ValueError: there are no such weights, or they are damaged, not finite or of
        another kind of model.
    """
    path = epath.Path(os.fspath(path))
    file = _find(path)
    if file.name.endswith((".safetensors", ".json")):
        state = huggingface.read_safetensors(file)
    else:
        state = state_dict.read(file)
    state = {k: v for k, v in state.items() if not _IGNORED.fullmatch(k)}
    is_theirs = any(name.startswith("vision_model.") for name in state)
    arrays = _rename(state, is_theirs, os.fspath(file))
    folder = file.parent
    if is_theirs:
        known = _read_huggingface_config(folder / CONFIG_FILE)
        return ClipWeights(arrays, known)
    if state_dict.is_scripted(file):
        return ClipWeights(arrays, {"activation": "quick_gelu"})
    config = folder / OPEN_CLIP_CONFIG_FILE
    if not config.exists():
        return ClipWeights(arrays, {})
    return _with_open_clip_config(arrays, config)


def _find(path: epath.Path) -> epath.Path:
    if path.is_file():
        return path
    if not path.is_dir():
        raise ValueError(f"{path}: no such file or folder of CLIP weights")
    found = [path / name for name in _FILES if (path / name).exists()]
    if not found:
        raise ValueError(
            f"{path} holds no CLIP weights: expected one of {', '.join(_FILES)}, or give "
            "the file itself"
        )
    return found[0]


def _rename(state: Arrays, is_theirs: bool, where: str) -> Arrays:
    """Returns the arrays under our names, float32; every array must have a place."""
    if not is_theirs:
        state = {k.removeprefix("text."): v for k, v in state.items()}
    if any(name.startswith("visual.layer1") for name in state):
        raise ValueError(
            f"{where} is a CLIP with a ResNet; expected one with a ViT, such as ViT-B-32"
        )
    rows = _huggingface_rows if is_theirs else _openai_rows
    found: Arrays = {}
    for ours, theirs, turn in rows(state):
        if theirs not in state:
            raise ValueError(
                f"{where} has no tensor {theirs}: expected a CLIP of OpenAI, Hugging "
                f"Face or open_clip, got {', '.join(sorted(state)[:3])}, ..."
            )
        value = state[theirs]
        values.check_dtype(where, theirs, value.dtype)
        value = _turn(np.asarray(value, np.float32), turn, f"{where}: {theirs}")
        values.check_finite(where, theirs, value)
        found[ours] = value
    used = {theirs for _, theirs, _ in rows(state)}
    if left := sorted(state.keys() - used):
        raise ValueError(
            f"{where} has {len(left)} tensors that a CLIP with a ViT lacks, such as "
            f"{left[0]}; this kind of model is not supported"
        )
    return found


def _turn(value: np.ndarray, turn: str, where: str) -> np.ndarray:
    """Rearranges an array: "", "linear", "convolution", or a third of a stack."""
    rank = {"": value.ndim, "linear": 2, "convolution": 4}.get(turn, value.ndim)
    if value.ndim != rank:
        raise ValueError(f"{where}: expected {rank} axes, got {list(value.shape)}")
    if turn in ("query", "key", "value"):
        if len(value) % 3:
            raise ValueError(f"{where}: {len(value)} rows are no three equal parts")
        value = np.split(value, 3)[("query", "key", "value").index(turn)]
        turn = "linear" if value.ndim == 2 else ""
    if turn == "linear":
        return value.T
    return value.transpose(2, 3, 1, 0) if turn == "convolution" else value


Row = tuple[str, str, str]  # ours, theirs, how to turn


def _openai_rows(state: Mapping[str, Any]) -> Iterator[Row]:
    yield "logit_scale", "logit_scale", ""
    yield "image/class_embedding", "visual.class_embedding", ""
    yield "image/patch_embedding/kernel", "visual.conv1.weight", "convolution"
    yield "image/position_embedding", "visual.positional_embedding", ""
    yield "image/projection", "visual.proj", ""
    yield from _norm("image/norm_before", "visual.ln_pre")
    yield from _norm("image/norm_after", "visual.ln_post")
    yield "text/token_embedding", "token_embedding.weight", ""
    yield "text/position_embedding", "positional_embedding", ""
    yield "text/projection", "text_projection", ""
    yield from _norm("text/norm_after", "ln_final")
    for tower, prefix in (("image", "visual."), ("text", "")):
        layers = f"{prefix}transformer.resblocks"
        for i in range(_count(state, layers)):
            ours, theirs = f"{tower}/blocks_{i}", f"{layers}.{i}"
            for part in ("query", "key", "value"):
                at = f"{ours}/attention/{part}"
                yield f"{at}/kernel", f"{theirs}.attn.in_proj_weight", part
                yield f"{at}/bias", f"{theirs}.attn.in_proj_bias", part
            yield from _layer(ours, theirs, 0)


def _huggingface_rows(state: Mapping[str, Any]) -> Iterator[Row]:
    yield "logit_scale", "logit_scale", ""
    at = "vision_model.embeddings"
    yield "image/class_embedding", f"{at}.class_embedding", ""
    yield "image/patch_embedding/kernel", f"{at}.patch_embedding.weight", "convolution"
    yield "image/position_embedding", f"{at}.position_embedding.weight", ""
    yield "image/projection", "visual_projection.weight", "linear"
    yield from _norm("image/norm_before", "vision_model.pre_layrnorm")
    yield from _norm("image/norm_after", "vision_model.post_layernorm")
    at = "text_model.embeddings"
    yield "text/token_embedding", f"{at}.token_embedding.weight", ""
    yield "text/position_embedding", f"{at}.position_embedding.weight", ""
    yield "text/projection", "text_projection.weight", "linear"
    yield from _norm("text/norm_after", "text_model.final_layer_norm")
    for tower, prefix in (("image", "vision_model"), ("text", "text_model")):
        layers = f"{prefix}.encoder.layers"
        for i in range(_count(state, layers)):
            ours, theirs = f"{tower}/blocks_{i}", f"{layers}.{i}"
            for part, name in (("query", "q"), ("key", "k"), ("value", "v")):
                at = f"{theirs}.self_attn.{name}_proj"
                yield from _linear(f"{ours}/attention/{part}", at)
            yield from _layer(ours, theirs, 1)


def _layer(ours: str, theirs: str, column: int) -> Iterator[Row]:
    for part, names in _LAYER_PARTS.items():
        rows = _norm if part.startswith("norm") else _linear
        yield from rows(f"{ours}/{part}", f"{theirs}.{names[column]}")


def _norm(ours: str, theirs: str) -> Iterator[Row]:
    yield f"{ours}/scale", f"{theirs}.weight", ""
    yield f"{ours}/bias", f"{theirs}.bias", ""


def _linear(ours: str, theirs: str) -> Iterator[Row]:
    yield f"{ours}/kernel", f"{theirs}.weight", "linear"
    yield f"{ours}/bias", f"{theirs}.bias", ""


def _count(state: Mapping[str, Any], layers: str) -> int:
    found = (re.match(re.escape(layers) + r"\.([0-9]{1,3})\.", name) for name in state)
    return max((int(match[1]) + 1 for match in found if match), default=0)


def _read_json(path: epath.Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes().decode("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read as JSON in UTF-8: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path}: expected a JSON object")  # noqa: TRY004
    return found


def _section(found: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Returns the sections of a config, the later over the earlier."""
    merged: dict[str, Any] = {}
    for name in names:
        part = found.get(name)
        merged |= part if isinstance(part, dict) else {}
    return merged


def _read_huggingface_config(path: epath.Path) -> dict[str, Any]:
    """Reads what shapes do not tell; absent keys have transformers' defaults."""
    if not path.exists():
        raise ValueError(
            f"{path} does not exist: the numbers of heads and the activation of Hugging "
            "Face's weights stand there; put it beside them"
        )
    found = _read_json(path)
    image = _section(found, "vision_config", "vision_config_dict")
    text = _section(found, "text_config", "text_config_dict")
    usual = {"hidden_act": "quick_gelu", "layer_norm_eps": 1e-5}
    for key, default in usual.items():
        if image.get(key, default) != text.get(key, default):
            raise ValueError(
                f"{path}: {key} differs between vision_config and text_config, which is "
                "not supported"
            )
    end = text.get("eos_token_id", 49407)
    return {
        "activation": image.get("hidden_act", "quick_gelu"),
        "norm_epsilon": float(image.get("layer_norm_eps", 1e-5)),
        "image_heads": int(image.get("num_attention_heads", 12)),
        "text_heads": int(text.get("num_attention_heads", 8)),
        # Configs older than the id was right say 2, and mean the largest token.
        "end_id": None if end == 2 else int(end),
    }


def _with_open_clip_config(arrays: Arrays, path: epath.Path) -> ClipWeights:
    found = _read_json(path)
    model = _section(found, "model_cfg")
    image, text = _section(model, "vision_cfg"), _section(model, "text_cfg")
    known: dict[str, Any] = {
        "activation": "quick_gelu" if model.get("quick_gelu") else "gelu"
    }
    if "head_width" in image and "width" in image:
        known["image_heads"] = int(image["width"]) // int(image["head_width"])
    if "heads" in text:
        known["text_heads"] = int(text["heads"])
    pixels = _section(found, "preprocess_cfg")
    mean, deviation = pixels.get("mean"), pixels.get("std")
    return ClipWeights(
        arrays,
        known,
        tuple(map(float, mean)) if mean else None,
        tuple(map(float, deviation)) if deviation else None,
    )
