"""config.json of Hugging Face beside weights: compared, or said not to be."""

import json

import pytest

from rahf.models.t5_layers import T5Config
from rahf.models.vit import ViTConfig
from rahf.weights import huggingface_config

VIT = ViTConfig(exact_gelu=True, norm_epsilon=1e-12)
T5, T5_1_1 = T5Config(), T5Config(gated=True, mlp_dim=2048)
#: google/vit-base-patch16-224, t5-base and google/flan-t5-base.
THEIR_VIT = {"model_type": "vit", "hidden_act": "gelu", "layer_norm_eps": 1e-12}
THEIR_T5 = {"d_model": 768, "d_kv": 64, "d_ff": 3072, "num_heads": 12, "num_layers": 12}
THEIR_T5 |= {"model_type": "t5", "layer_norm_epsilon": 1e-6}
FLAN = THEIR_T5 | {"d_ff": 2048, "feed_forward_proj": "gated-gelu"}
FLAN |= {"tie_word_embeddings": False, "num_decoder_layers": 12}


def _check(folder, config, part, ours):
    (folder / "config.json").write_text(json.dumps(config))
    return huggingface_config.check(folder, part, ours)


def test_published_models_fit_their_configs(tmp_path):
    assert not _check(tmp_path, THEIR_VIT, "vit", VIT)
    assert not _check(tmp_path, THEIR_T5, "t5", T5)
    assert not _check(tmp_path, FLAN, "t5", T5_1_1)
    # As newer files of the same models have it.
    newer = {"tie_word_embeddings": True, "scale_decoder_outputs": False}
    assert not _check(tmp_path, FLAN | newer, "t5", T5_1_1)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        (
            {"num_attention_heads": 16},
            "num_heads=12 (set --config.model.vit.num_heads=16",
        ),
        (
            {"hidden_act": "gelu_new"},
            "exact_gelu=True (set --config.model.vit.exact_gelu",
        ),
        ({"layer_norm_eps": 1e-6}, "(set --config.model.vit.norm_epsilon=1e-06)"),
        ({"num_hidden_layers": 24}, "(set --config.model.vit.depth=24)"),
        ({"intermediate_size": 4096}, "(set --config.model.vit.mlp_dim=4096)"),
        ({"hidden_act": "relu"}, "hidden_act='relu' is not one of gelu, "),
        ({"hidden_act": ["gelu"]}, "hidden_act=['gelu'] is not one of gelu, "),
        (
            {"num_attention_heads": "12"},
            "num_attention_heads='12', but config.model.vit",
        ),
    ],
)
def test_another_vit(tmp_path, changes, key):
    with pytest.raises(ValueError, match="describes another model") as caught:
        _check(tmp_path, THEIR_VIT | changes, "vit", VIT)
    assert key in str(caught.value) and str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"num_heads": 16}, "(set --config.model.t5.num_heads=16)"),
        ({"num_layers": 24}, "(set --config.model.t5.encoder_layers=24)"),
        ({"num_layers": 24}, "(set --config.model.t5.decoder_layers=24)"),
        ({"num_decoder_layers": 6}, "(set --config.model.t5.decoder_layers=6)"),
        ({"feed_forward_proj": "gated-gelu"}, "(set --config.model.t5.gated=True)"),
        (
            {"feed_forward_proj": "gated-silu"},
            "'gated-silu' is not one of relu, gated-gelu",
        ),
        (
            {"layer_norm_epsilon": 1e-5},
            "layer_norm_epsilon=1e-05, but this T5 has 1e-06",
        ),
        (
            {"tie_word_embeddings": False},
            "tie_word_embeddings=False, but this T5 has Tr",
        ),
        ({"relative_attention_max_distance": 64}, "t5.relative_max_distance=64)"),
    ],
)
def test_another_t5(tmp_path, changes, key):
    with pytest.raises(ValueError, match="describes another model") as caught:
        _check(tmp_path, THEIR_T5 | changes, "t5", T5)
    assert key in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[]", ": expected a JSON object with .* keys, got list"),
        (b"null", ": expected a JSON object with .* keys, got NoneType"),
        (b'{"hidden_act": "ge', " cannot be read as JSON in UTF-8"),
        ('{"hidden_act": "gelu"}'.encode("utf-16"), " cannot be read as JSON in UTF-8"),
        (b"", " cannot be read as JSON in UTF-8"),
        (b"[" * 100_000, " cannot be read as JSON in UTF-8"),
    ],
)
def test_a_config_that_is_none(tmp_path, content, message):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(ValueError, match=f"config.json{message}") as caught:
        huggingface_config.check(tmp_path / "model.safetensors", "vit", VIT)
    assert "\n" not in str(caught.value)


def test_what_is_not_there_is_said(tmp_path):
    note = huggingface_config.check(tmp_path / "model.safetensors", "vit", VIT)
    assert note.startswith(f"{tmp_path}/config.json does not exist")
    assert "not compared with config.model.vit" in note
