"""DINOv2: three ways of naming its weights give transformers' tokens."""

import json
import re

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from rahf.models.vit import ViT, ViTConfig
from rahf.weights import dinov2, export_torch, huggingface, huggingface_config, matching
from tests.parity import reference

# tests/parity/make_dinov2.py made it.
FIXTURE = np.load(reference.FIXTURES / "dinov2.npz")
SIDE = 42
CONFIGS = {
    "registers": {"registers": 4, "mlp_dim": 128},
    "gated": {"swiglu": True, "mlp_dim": 88},
}


def _config(kind: str, **changes) -> ViTConfig:
    sizes = {"image_size": SIDE, "patch_size": 14, "width": 32, "depth": 2}
    more = {"num_heads": 4, "layer_scale": True, "exact_gelu": True}
    return ViTConfig(**{**sizes, **more, **CONFIGS[kind], **changes})


def _shapes(config: ViTConfig) -> dict[str, tuple[int, ...]]:
    images = np.zeros((1, config.image_size, config.image_size, 3), np.float32)
    found = jax.eval_shape(ViT(config).init, jax.random.key(0), images)["params"]
    leaves = jax.tree_util.tree_leaves_with_path(found)
    return {
        "vit/" + "/".join(str(k.key) for k in path if hasattr(k, "key")): leaf.shape
        for path, leaf in leaves
    }


def _weights(kind: str) -> dict[str, np.ndarray]:
    """As transformers 5 names them."""
    about = {"about": FIXTURE[f"{kind}_about"]}
    return reference.draw_vit(reference.names_and_shapes(about))


def _of_the_hub(weights):
    """As the files on the hub name them."""
    names = {
        r"attention\.(q|k|v)_proj": lambda m: (
            "attention.attention." + {"q": "query", "k": "key", "v": "value"}[m[1]]
        ),
        r"attention\.o_proj": lambda m: "attention.output.dense",
        r"mlp\.down_proj": lambda m: "mlp.weights_out",
    }
    found = {}
    for name, value in weights.items():
        for pattern, new in names.items():
            name = re.sub(pattern, new, name)
        if ".up_proj." in name:
            continue
        if ".gate_proj." in name:
            up = weights[name.replace(".gate_proj.", ".up_proj.")]
            value = np.concatenate([value, up])
            name = name.replace(".gate_proj.", ".weights_in.")
        found[name] = value
    return found


def _of_meta(weights):
    """As Meta's own files name them."""
    names = (
        ("embeddings.patch_embeddings.projection", "patch_embed.proj"),
        ("embeddings.position_embeddings", "pos_embed"),
        ("embeddings.", ""),
        ("encoder.layer.", "blocks."),
        ("layernorm.", "norm."),
        ("layer_scale1.lambda1", "ls1.gamma"),
        ("layer_scale2.lambda1", "ls2.gamma"),
        ("attention.o_proj", "attn.proj"),
        ("mlp.down_proj", "mlp.w3"),
    )
    found = {}
    for name, value in weights.items():
        for theirs, new in names:
            name = name.replace(theirs, new)
        if any(part in name for part in (".k_proj.", ".v_proj.", ".up_proj.")):
            continue
        if ".q_proj." in name:
            parts = [name] + [name.replace(".q_", f".{x}_") for x in "kv"]
            parts = [part.replace("blocks.", "encoder.layer.") for part in parts]
            value = np.concatenate([weights[part] for part in parts])
            name = name.replace("attention.q_proj", "attn.qkv")
        if ".gate_proj." in name:
            up = name.replace("blocks.", "encoder.layer.").replace(".gate_", ".up_")
            value = np.concatenate([value, weights[up]])
            name = name.replace(".gate_proj.", ".w12.")
        found[name] = value
    return found


@pytest.mark.parametrize("kind", CONFIGS)
def test_tokens_equal_those_of_transformers(kind, tmp_path):
    config, weights = _config(kind), _weights(kind)
    shapes = _shapes(config)
    save_file(weights, tmp_path / "model.safetensors")
    hub = tmp_path / "hub"
    hub.mkdir()
    save_file(_of_the_hub(weights), hub / "model.safetensors")
    export_torch.write_state_dict(tmp_path / "dinov2.pth", _of_meta(weights))
    found = huggingface.read(tmp_path, "vit", shapes)
    for other in (
        huggingface.read(hub, "vit", shapes),
        dinov2.read(tmp_path / "dinov2.pth", shapes),
    ):
        assert other.keys() == found.keys() == shapes.keys()
        for name, value in found.items():
            np.testing.assert_array_equal(other[name], value, err_msg=name)
    wanted = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    loaded, _ = matching.match(wanted, found, source="dinov2")
    params = matching.unflatten(loaded)["vit"]
    image = reference.picture(SIDE).astype(np.float32) / 127.5 - 1
    tokens = jax.jit(ViT(config).apply)({"params": params}, image)
    theirs = FIXTURE[f"{kind}_tokens"]
    largest = np.abs(theirs).max()
    np.testing.assert_allclose(tokens / largest, theirs / largest, atol=1e-4)


def test_positions_are_interpolated_and_depth_must_agree(tmp_path):
    weights = _weights("registers")
    save_file(weights, tmp_path / "model.safetensors")
    larger = _shapes(_config("registers", image_size=56))
    found = huggingface.read(tmp_path, "vit", larger)
    wanted = {name: np.zeros(shape, np.float32) for name, shape in larger.items()}
    _, report = matching.match(wanted, found, source="x")
    assert report.names("resized") == ["vit/Transformer/posembed_input/pos_embedding"]
    shallow = _shapes(_config("registers", depth=1))
    wanted = {name: np.zeros(shape, np.float32) for name, shape in shallow.items()}
    with pytest.raises(ValueError, match=r"set config\.model\.vit\.depth=2"):
        matching.match(wanted, huggingface.read(tmp_path, "vit", shallow), source="x")


def test_what_the_config_lacks_is_named(tmp_path):
    save_file(_weights("registers"), tmp_path / "model.safetensors")
    for change, error in (
        ({"registers": 0}, "has 4 register tokens.*set --config.model.vit.registers=4"),
        ({"layer_scale": False}, "set --config.model.vit.layer_scale=True"),
    ):
        with pytest.raises(ValueError, match=error):
            huggingface.read(tmp_path, "vit", _shapes(_config("registers", **change)))
    export_torch.write_state_dict(tmp_path / "x.pth", {"a": np.ones(2, np.float32)})
    with pytest.raises(ValueError, match="expected a DINOv2, with layer scales"):
        dinov2.read(tmp_path / "x.pth", _shapes(_config("registers")))


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ({}, ""),
        (
            {"num_attention_heads": 2},
            "num_heads=4 (set --config.model.vit.num_heads=2)",
        ),
        ({"num_hidden_layers": 3}, "config.model.vit.depth=2"),
        ({"layer_norm_eps": 1e-12}, "config.model.vit.norm_epsilon=1e-06"),
        ({"hidden_act": "gelu_new"}, "config.model.vit.exact_gelu=True"),
        ({"num_register_tokens": 0}, "config.model.vit.registers=4"),
        ({"use_swiglu_ffn": True}, "(set --config.model.vit.mlp_dim=88)"),
    ],
)
def test_the_config_beside_the_weights_is_compared(content, error, tmp_path):
    said = {"model_type": "dinov2_with_registers", "hidden_size": 32}
    said |= {"num_hidden_layers": 2, "num_attention_heads": 4, **content}
    (tmp_path / "config.json").write_text(json.dumps(said))
    check = huggingface_config.check
    if not error:
        assert check(tmp_path, "vit", _config("registers")) == ""
        return
    with pytest.raises(ValueError, match=re.escape(error)):
        check(tmp_path, "vit", _config("registers"))
