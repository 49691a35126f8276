"""Compares Hugging Face's config.json with our model.

Weights of the same shapes may belong to another model, with another number of heads,
activation or epsilon. They would load, but compute something else.
"""

import json
import os
from collections.abc import Iterator
from typing import Any

from etils import epath

CONFIG_FILE = "config.json"

_Compared = tuple[str, str, Any]  # their key, our key, their default

_VIT: tuple[_Compared, ...] = (
    ("hidden_size", "width", 768),
    ("num_hidden_layers", "depth", 12),
    ("num_attention_heads", "num_heads", 12),
    ("intermediate_size", "mlp_dim", 3072),
    ("layer_norm_eps", "norm_epsilon", 1e-12),
    ("hidden_act", "exact_gelu", "gelu"),
)
_DINOV2: tuple[_Compared, ...] = (
    *(row for row in _VIT if row[1] not in ("norm_epsilon", "mlp_dim")),
    ("layer_norm_eps", "norm_epsilon", 1e-6),
    ("use_swiglu_ffn", "swiglu", False),
)
_T5: tuple[_Compared, ...] = (
    ("d_model", "embed_dim", 512),
    ("d_kv", "head_dim", 64),
    ("d_ff", "mlp_dim", 2048),
    ("num_heads", "num_heads", 8),
    ("num_layers", "encoder_layers", 6),
    ("num_decoder_layers", "decoder_layers", None),
    ("relative_attention_num_buckets", "relative_buckets", 32),
    ("relative_attention_max_distance", "relative_max_distance", 128),
    ("feed_forward_proj", "gated", "relu"),
)
_COMPARED = {"vit": _VIT, "t5": _T5}
#: Their activation -> our switch.
_ACTIVATIONS = {
    "hidden_act": {
        "gelu": True,
        "gelu_python": True,
        "gelu_new": False,
        "gelu_fast": False,
        "gelu_pytorch_tanh": False,
    },
    "feed_forward_proj": {"relu": False, "gated-gelu": True},
}
_T5_EPSILON = 1e-6


def check(path: str | os.PathLike, part: str, ours: Any) -> str:
    """Compares the config.json beside weights with the model they are for.

    Sizes of images, patches and vocabulary may differ; they show in the shapes.

    Args:
      path: a path that `rahf.weights.huggingface.read` accepts.
      part: "vit" or "t5".
      ours: the model's `ViTConfig` or `T5Config`.

    Returns:
      A sentence on what could not be compared; empty if everything was.

    Raises:
      ValueError: it differs (names the keys to set), or is not a config.
    """
    path = epath.Path(path)
    path = (path if path.is_dir() else path.parent) / CONFIG_FILE
    if not path.exists():
        return (
            f"{path} does not exist, so what shapes do not show (activation, epsilon, "
            f"the ViT's number of heads) was not compared with config.model.{part}"
        )
    theirs = _read(path)
    if wrong := [*_differences(theirs, part, ours), *_unsupported(theirs, part, ours)]:
        raise ValueError(f"{path} describes another model: {'; '.join(wrong)}")
    return ""


def check_network(
    path: str | os.PathLike, stem: str, expected: dict[str, Any], timm: str
) -> None:
    """Compares the config.json beside a convolutional network with ours, if there is one.

    Args:
      path: a path that `rahf.weights.huggingface.read_safetensors` accepts.
      stem: `config.model.vit.stem`.
      expected: the values of Hugging Face's keys; a missing key has that of ResNet-50
        or BiT-50, which are the defaults.
      timm: timm's name of the network.

    Raises:
      ValueError: it differs (names both values), or is not a config.
    """
    path = epath.Path(path)
    path = (path if path.is_dir() else path.parent) / CONFIG_FILE
    if not path.exists():
        return
    theirs, wrong = _read(path), []
    architecture = str(theirs.get("architecture", timm))  # timm's files have one
    if architecture.partition(".")[0] != timm:
        wrong.append(f"architecture={architecture!r}, not {timm!r}")
    wrong += [
        f"{key}={theirs[key]!r}, not {value!r}"
        for key, value in expected.items()
        if key in theirs and theirs[key] != value
    ]
    if wrong:
        raise ValueError(
            f"{path} describes another network than config.model.vit.stem={stem!r}: "
            f"{'; '.join(wrong)}"
        )


def _read(path: epath.Path) -> dict[str, Any]:
    try:
        theirs = json.loads(path.read_bytes().decode("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read as JSON in UTF-8: {error}") from error
    if not isinstance(theirs, dict):
        raise ValueError(  # noqa: TRY004
            f"{path}: expected a JSON object with a Hugging Face model's keys, got "
            f"{type(theirs).__name__}"
        )
    return theirs


def _differences(theirs: dict[str, Any], part: str, ours: Any) -> Iterator[str]:
    is_dinov2 = part == "vit" and str(theirs.get("model_type")).startswith("dinov2")
    if is_dinov2:
        yield from _differences_of_dinov2(theirs, ours)
    for key, our_key, default in _DINOV2 if is_dinov2 else _COMPARED[part]:
        value = theirs.get(key, default)
        if key == "num_decoder_layers" and value is None:
            value = theirs.get("num_layers", 6)
        wanted = value
        if key in _ACTIVATIONS:
            known = _ACTIVATIONS[key]
            if value not in list(known):
                yield f"{key}={value!r} is not one of {', '.join(known)}"
                continue
            wanted = known[value]
        have = getattr(ours, our_key)
        if wanted != have or isinstance(wanted, bool) != isinstance(have, bool):
            yield (
                f"{key}={value!r}, but config.model.{part}.{our_key}={have!r} (set "
                f"--config.model.{part}.{our_key}={wanted!r})"
            )


def _differences_of_dinov2(theirs: dict[str, Any], ours: Any) -> Iterator[str]:
    """Yields differences in what DINOv2's keys say in another way than ours."""
    gated = theirs.get("use_swiglu_ffn", False)
    mlp_dim = int(theirs.get("hidden_size", 768) * theirs.get("mlp_ratio", 4))
    if gated:  # two thirds, rounded up to a multiple of eight
        mlp_dim = (int(mlp_dim * 2 / 3) + 7) // 8 * 8
    registers = 4 if theirs["model_type"] == "dinov2_with_registers" else 0
    registers = theirs.get("num_register_tokens", registers)
    for key, said, our_key, wanted in (
        ("mlp_ratio", theirs.get("mlp_ratio", 4), "mlp_dim", mlp_dim),
        ("num_register_tokens", registers, "registers", registers),
        ("model_type", theirs["model_type"], "layer_scale", True),
    ):
        if (have := getattr(ours, our_key)) != wanted:
            yield (
                f"{key}={said!r}, but config.model.vit.{our_key}={have!r} (set "
                f"--config.model.vit.{our_key}={wanted!r})"
            )


def _unsupported(theirs: dict[str, Any], part: str, ours: Any) -> Iterator[str]:
    """Yields differences that no key of ours can express."""
    if part != "t5":
        return
    epsilon = theirs.get("layer_norm_epsilon", _T5_EPSILON)
    if epsilon != _T5_EPSILON:
        yield f"layer_norm_epsilon={epsilon!r}, but this T5 has {_T5_EPSILON}"
    # Newer files use the first key for what older ones say with the second.
    key = next(
        (k for k in ("scale_decoder_outputs", "tie_word_embeddings") if k in theirs),
        "tie_word_embeddings",
    )
    if bool(theirs.get(key, True)) == ours.gated:
        yield (
            f"{key}={ours.gated}, but this T5 has {not ours.gated} with "
            f"config.model.t5.gated={ours.gated}"
        )
