"""The layout of the first author's PyTorch release, parameter by parameter.

Its state dict holds a Hugging Face ViT under `vit.` and T5 under `t5.` (with the names
of transformers 4, as in the release and the hub's files), a projection and a head for
each target. One table, made from a model's parameters, maps their names and axes, and
is used in both directions.

Letters: I and O are input and output channels, H heads, K the width of a head, D their
product.
"""

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping

import numpy as np

Array = np.ndarray

#: The name of the state dict files that we write.
STATE_DICT_FILE = "richhf.pt"


@dataclasses.dataclass(frozen=True)
class Layout:
    """How the axes of an array are arranged in PyTorch.

    Attributes:
      out: our array -> theirs.
      back: their array and our shape -> our array, the inverse.
    """

    out: Callable[[Array], Array]
    back: Callable[[Array, tuple[int, ...]], Array]


def _flipped(kernel: Array) -> Array:
    return kernel[::-1, ::-1]


SAME = Layout(lambda x: x, lambda x, shape: x.reshape(shape))
#: [I, O] -> [O, I]
LINEAR = Layout(lambda x: x.T, lambda x, shape: x.T.reshape(shape))
#: [D, H, K] -> [H * K, D], and biases [H, K] -> [H * K]
SPLIT = Layout(
    lambda x: x.reshape(x.shape[0], -1).T if x.ndim == 3 else x.reshape(-1),
    lambda x, shape: x.T.reshape(shape),
)
#: [H, K, D] -> [D, H * K]
JOIN = Layout(
    lambda x: x.reshape(-1, x.shape[-1]).T, lambda x, shape: x.T.reshape(shape)
)
#: [kh, kw, I, O] -> [O, I, kh, kw]
CONV = Layout(
    lambda x: x.transpose(3, 2, 0, 1), lambda x, shape: x.transpose(2, 3, 1, 0)
)
#: [kh, kw, I, O] -> [I, O, kh, kw]; PyTorch's kernel is the gradient's, flipped.
DECONV = Layout(
    lambda x: _flipped(x).transpose(2, 3, 0, 1),
    lambda x, shape: _flipped(x.transpose(2, 3, 0, 1)),
)
#: [O] -> [O, 1, 1]: norms of the heads broadcast over rows and columns.
CHANNELS = Layout(lambda x: x[:, None, None], lambda x, shape: x.reshape(shape))


@dataclasses.dataclass(frozen=True)
class Row:
    """One parameter in both layouts.

    Attributes:
      ours: its path here, such as "t5/encoder/encoder_norm/scale".
      theirs: its names there; several for the token embedding, which PyTorch lists
        under every module that shares it.
      turn: layout of its axes.
    """

    ours: str
    theirs: tuple[str, ...]
    turn: Layout


# The parameters of each kind of layer: our leaf, their leaf, the layout.
_LINEAR = (("kernel", "weight", LINEAR), ("bias", "bias", SAME))
_CONV = (("kernel", "weight", CONV), ("bias", "bias", SAME))
_DECONV = (("kernel", "weight", DECONV), ("bias", "bias", SAME))
_NORM = (("scale", "weight", SAME), ("bias", "bias", SAME))
_HEAD_NORM = (("scale", "scale", CHANNELS),)
_SPLIT = (("kernel", "weight", SPLIT), ("bias", "bias", SPLIT))
_JOIN = (("kernel", "weight", JOIN), ("bias", "bias", SAME))

# Our layer -> their layer and its kind; {0}, {1} are the matched groups.
_VIT = {
    r"embedding": ("embeddings.patch_embeddings.projection", _CONV),
    r"Transformer/encoder_norm": ("layernorm", _NORM),
} | {
    rf"Transformer/encoderblock_(\d+)/{ours}": (f"encoder.layer.{{0}}.{theirs}", kind)
    for ours, theirs, kind in (
        ("LayerNorm_0", "layernorm_before", _NORM),
        ("LayerNorm_2", "layernorm_after", _NORM),
        ("MlpBlock_3/Dense_0", "intermediate.dense", _LINEAR),
        ("MlpBlock_3/Dense_1", "output.dense", _LINEAR),
        ("MultiHeadDotProductAttention_1/out", "attention.output.dense", _JOIN),
        *(
            (f"MultiHeadDotProductAttention_1/{x}", f"attention.attention.{x}", _SPLIT)
            for x in ("query", "key", "value")
        ),
    )
}
_PROJECTIONS = {"query": "q", "key": "k", "value": "v", "out": "o"}


def _t5_layers(stack: str, parts: Mapping[str, tuple[int, str]]):
    """Returns the rows of a stack; `parts` maps our names to (sublayer, their name)."""
    rows = {}
    for ours, (i, theirs) in parts.items():
        inner = ("wi", "wi_0", "wi_1", "wo") if ours == "mlp" else tuple(_PROJECTIONS)
        for name in inner:
            their_name = _PROJECTIONS.get(name, name)
            rows[rf"{stack}/layers_(\d+)/{ours}/{name}"] = (
                f"{stack}.block.{{0}}.layer.{i}.{theirs}.{their_name}",
                _LINEAR,
            )
        norm = ours.replace("encoder_decoder", "cross")
        rows[rf"{stack}/layers_(\d+)/pre_{norm}_layer_norm"] = (
            f"{stack}.block.{{0}}.layer.{i}.layer_norm",
            _NORM,
        )
    return rows


_T5 = {
    r"(encoder|decoder)/(?:encoder|decoder)_norm": ("{0}.final_layer_norm", _NORM),
    r"(encoder|decoder)/relpos_bias": (
        "{0}.block.0.layer.0.SelfAttention.relative_attention_bias",
        (("rel_embedding", "weight", LINEAR),),
    ),
    r"decoder/logits_dense": ("lm_head", _LINEAR),
    **_t5_layers(
        "encoder",
        {"attention": (0, "SelfAttention"), "mlp": (1, "DenseReluDense")},
    ),
    **_t5_layers(
        "decoder",
        {
            "self_attention": (0, "SelfAttention"),
            "encoder_decoder_attention": (1, "EncDecAttention"),
            "mlp": (2, "DenseReluDense"),
        },
    ),
}
# Their heads are lists of layers; indices include those without parameters.
_HEATMAP = {
    "stem_0": ("conv_layers.0", _CONV),
    "stem_norm_0": ("conv_layers.2", _HEAD_NORM),
    "stem_1": ("conv_layers.3", _CONV),
    "stem_norm_1": ("conv_layers.5", _HEAD_NORM),
    r"deconv_(\d)": ("deconv_layers.{0}.0", _DECONV),
    r"deconv_norm_(\d)": ("deconv_layers.{0}.1", _HEAD_NORM),
    r"residual_(\d)_0": ("conv_layers2.{0}.0", _CONV),
    r"residual_norm_(\d)_0": ("conv_layers2.{0}.1", _HEAD_NORM),
    r"residual_(\d)_1": ("conv_layers2.{0}.3", _CONV),
    r"residual_norm_(\d)_1": ("conv_layers2.{0}.4", _HEAD_NORM),
    "last": ("last_conv1", _CONV),
    "out": ("last_conv2", _CONV),
}
_SCORE = {
    **{f"conv_{i}": (f"conv_layers.{3 * i}", _CONV) for i in range(6)},
    **{f"norm_{i}": (f"conv_layers.{3 * i + 1}", _HEAD_NORM) for i in range(6)},
    **{f"linear_{i}": (f"linear_layers.{2 * i}", _LINEAR) for i in range(3)},
}

_LAYERS = {
    **{rf"vit/{ours}": (f"vit.{their}", kind) for ours, (their, kind) in _VIT.items()},
    **{rf"t5/{ours}": (f"t5.{their}", kind) for ours, (their, kind) in _T5.items()},
    "visual_token_projection": ("visual_token_projection", _LINEAR),
}
# A head's target may have any name, so it is removed before matching.
_HEADS = {"heatmap_predictor": _HEATMAP, "score_predictor": _SCORE}
_SINGLE = {
    "vit/cls": "vit.embeddings.cls_token",
    "vit/Transformer/posembed_input/pos_embedding": (
        "vit.embeddings.position_embeddings"
    ),
}
_EMBEDDING = "t5/token_embedder/embedding"
_TABLES = ("t5.shared", "t5.encoder.embed_tokens", "t5.decoder.embed_tokens")


def make_rows(paths: Iterable[str]) -> list[Row]:
    """Returns every parameter's place in the release's layout.

    Args:
      paths: the paths of all parameters, joined by "/".

    Returns:
      A row for each, in the same order.

    Raises:
      ValueError: parameters have no place there; names them.
    """
    paths = list(paths)
    tied = not any(path.startswith("t5/decoder/logits_dense/") for path in paths)
    rows, homeless = [], []
    for path in paths:
        row = _row(path, tied)
        rows += [row] if row else []
        homeless += [] if row else [path]
    if homeless:
        raise ValueError(
            f"{len(homeless)} parameters have no place in the layout of the PyTorch "
            f"release, {', '.join(homeless[:3])}, ...: it holds only multi-head models "
            f"with 'paper' heads (config.model.variant, heatmap_head.name and "
            f"score_head.name)"
        )
    return rows


def _row(path: str, tied: bool) -> Row | None:
    if path in _SINGLE:
        return Row(path, (_SINGLE[path],), SAME)
    if path == _EMBEDDING:
        names = (*_TABLES, "t5.lm_head") if tied else _TABLES
        return Row(path, tuple(f"{name}.weight" for name in names), SAME)
    layer, _, leaf = path.rpartition("/")
    prefix, layers = "", _LAYERS
    for predictor, of_head in _HEADS.items():
        if layer.startswith(f"{predictor}_"):
            target, _, layer = layer.removeprefix(f"{predictor}_").partition("/")
            prefix, layers = f"{predictor}.{target}.", of_head
    for pattern, (theirs, kind) in layers.items():
        if match := re.fullmatch(pattern, layer):
            for our_leaf, their_leaf, turn in kind:
                if our_leaf == leaf:
                    name = f"{prefix}{theirs.format(*match.groups())}.{their_leaf}"
                    return Row(path, (name,), turn)
    return None


def to_release(params: Mapping[str, Array]) -> dict[str, Array]:
    """Converts our parameters by path to the release's state dict.

    The ViT's pooler, which the release has but nothing reads, is zeros. An array that
    several names share is one object.
    """
    state = {}
    for row in make_rows(params):
        array = np.ascontiguousarray(row.turn.out(np.asarray(params[row.ours])))
        state |= dict.fromkeys(row.theirs, array)
    width = state["vit.layernorm.weight"].shape[0]
    state["vit.pooler.dense.weight"] = np.zeros((width, width), np.float32)
    state["vit.pooler.dense.bias"] = np.zeros(width, np.float32)
    return state


def from_release(
    state: Mapping[str, Array], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, Array]:
    """Inverts `to_release`, for parameters of known paths and shapes."""
    return {
        row.ours: row.turn.back(np.asarray(state[row.theirs[0]]), shapes[row.ours])
        for row in make_rows(shapes)
    }
