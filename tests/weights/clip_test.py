"""CLIP's weights from every layout; the network equals PyTorch's, gradients included."""

import json
import pickle
import zipfile

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from safetensors.numpy import save_file

from rahf.models.clip import Clip, ClipConfig
from rahf.weights import clip, export_torch, matching, state_dict
from tests.parity import clip_reference as reference
from tests.parity.reference import FIXTURES, sample

SAID = np.load(FIXTURES / "clip.npz")


def _config(activation, end):
    r = reference
    return {
        "vision_config": {
            "num_attention_heads": r.IMAGE_HEADS,
            "hidden_act": activation,
        },
        "text_config": {
            "num_attention_heads": r.TEXT_HEADS,
            "hidden_act": activation,
            "eos_token_id": end,
        },
    }


def _folder(path, activation="quick_gelu", end=2, weights=None):
    """A folder as Hugging Face has it."""
    path.mkdir(exist_ok=True)
    save_file(weights or reference.huggingface_weights(), path / "model.safetensors")
    (path / "config.json").write_text(json.dumps(_config(activation, end)))
    return path


def _model(found, **known):
    shapes = {name: x.shape for name, x in found.arrays.items()}
    model = Clip(ClipConfig.from_shapes(shapes, **(known | found.known)))
    return model, matching.unflatten(found.arrays)


@pytest.mark.parametrize(("name", "activation", "end"), reference.MODELS)
def test_the_network_is_that_of_transformers(tmp_path, name, activation, end):
    model, params = _model(clip.read(_folder(tmp_path / "w", activation, end)))
    assert model.config.end_id == reference.END_IDS[name]
    inputs = reference.inputs(end)

    def loss(params, images):
        variables = {"params": params}
        texts = model.apply(variables, inputs["tokens"], method=Clip.encode_text)
        pictures = model.apply(variables, images, method=Clip.encode_image)
        logits = jnp.exp(params["logit_scale"]) * pictures @ texts.T
        own = jnp.arange(len(logits))
        each = optax.softmax_cross_entropy_with_integer_labels
        value = (each(logits, own) + each(logits.T, own)).mean() / 2
        return value, {"logits": logits, "images": pictures, "texts": texts}

    gradient = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))
    (value, said), (of_params, of_pixels) = gradient(params, inputs["images"])
    near = {"atol": 1e-4, "rtol": 1e-4}
    said |= {"loss": value, "gradient_pixels": of_pixels}
    for key, found in said.items():
        np.testing.assert_allclose(found, SAID[f"{name} {key}"], **near, err_msg=key)
    # Our gradients by their names: the reading is linear, so it turns gradients too.
    ours = matching.flatten(of_params)
    checked = 0
    for key in SAID.files:
        if key.startswith(f"{name} gradient ") and "position_ids" not in key:
            theirs = key.removeprefix(f"{name} gradient ")
            got = _by_their_name(ours, theirs)
            np.testing.assert_allclose(sample(got), SAID[key], **near, err_msg=key)
            checked += 1
    assert checked == len(reference.huggingface_weights())


def _by_their_name(ours, theirs):
    state = reference.huggingface_weights()
    for our_name, name, turn in clip._huggingface_rows(state):
        if name == theirs:
            value = np.asarray(ours[our_name])
            if turn == "linear":
                return value.T
            return value.transpose(3, 2, 0, 1) if turn == "convolution" else value
    raise AssertionError(theirs)


def test_openais_archive_is_read_without_its_code():
    path = FIXTURES / "clip_scripted.pt"
    found = clip.read(path)
    assert found.known == {"activation": "quick_gelu"}
    assert state_dict.is_scripted(path)
    heads = {"image_heads": reference.IMAGE_HEADS, "text_heads": reference.TEXT_HEADS}
    model, params = _model(found, **heads)
    inputs = reference.inputs(reference.END)
    run = jax.jit(model.apply)  # op by op would compile each
    logits = run({"params": params}, inputs["images"], inputs["tokens"])
    np.testing.assert_allclose(logits, SAID["scripted logits"], atol=1e-4, rtol=1e-4)
    assert all(x.dtype == np.float32 for x in found.arrays.values())


@pytest.mark.parametrize("form", ["pt", "open_clip", "safetensors", "bin", "module"])
def test_every_layout_holds_the_same(tmp_path, form):
    ours = clip.read(_folder(tmp_path / "w")).arrays
    theirs, path = reference.openai_weights(), tmp_path / "ViT.pt"
    if form == "pt":
        export_torch.write_state_dict(path, theirs)
    elif form == "module":
        export_torch.write_state_dict(
            path, {f"module.{k}": v for k, v in theirs.items()}
        )
    elif form == "bin":
        path = tmp_path
        weights = reference.huggingface_weights()
        weights["text_model.embeddings.position_ids"] = np.arange(9)
        export_torch.write_state_dict(path / "pytorch_model.bin", weights)
        (path / "config.json").write_text(json.dumps(_config("gelu", 3)))
    elif form == "safetensors":
        path = tmp_path / "x.safetensors"
        save_file(theirs, path)
    else:
        path = tmp_path / "open"
        path.mkdir()
        text = {
            k: v for k, v in theirs.items() if not k.startswith(("visual", "logit"))
        }
        rest = {k: v for k, v in theirs.items() if k not in text}
        text = {f"text.{k}": v for k, v in text.items()} | {
            "text.attn_mask": np.zeros((9, 9), np.float32)
        }
        save_file(rest | text, path / "open_clip_model.safetensors")
        about = {"vision_cfg": {"width": 32, "head_width": 8}, "text_cfg": {"heads": 3}}
        pixels = {"mean": [0.1, 0.2, 0.3], "std": [1, 2, 3]}
        text = json.dumps({"model_cfg": about, "preprocess_cfg": pixels})
        (path / "open_clip_config.json").write_text(text)
    found = clip.read(path)
    assert found.arrays.keys() == ours.keys()
    for name, value in ours.items():
        np.testing.assert_array_equal(found.arrays[name], value, err_msg=name)
    if form == "bin":
        known = {"activation": "gelu", "norm_epsilon": 1e-5, "end_id": 3}
        heads = {"image_heads": reference.IMAGE_HEADS}
        assert found.known == known | heads | {"text_heads": reference.TEXT_HEADS}
    elif form == "open_clip":
        known = {"activation": "gelu", "image_heads": 4, "text_heads": 3}
        assert found.known == known
        assert found.mean == (0.1, 0.2, 0.3) and found.deviation == (1, 2, 3)
    else:
        assert found.known == {}


def test_the_trained_tree_is_the_one_that_is_read(tmp_path):
    model, params = _model(clip.read(_folder(tmp_path / "w")))
    inputs = reference.inputs(2)
    made = jax.eval_shape(
        model.init, jax.random.key(0), inputs["images"], inputs["tokens"]
    )
    assert made.keys() == {"params"}
    made = matching.flatten(nn.unbox(made["params"]))
    assert {k: v.shape for k, v in made.items()} == {
        k: v.shape for k, v in matching.flatten(params).items()
    }


def test_large_models_are_counted():
    """H/14's heads are 80 wide, OpenAI's 64; sizes of the published models."""
    for width, depth, side, text, heads in (
        (1280, 32, 14, 1024, 16),
        (1024, 24, 14, 768, 16),
        (768, 12, 32, 512, 12),
        (1664, 48, 14, 1280, 16),
    ):
        shapes = {
            "image/projection": (width, text),
            "image/patch_embedding/kernel": (side, side, 3, width),
            "image/position_embedding": ((224 // side) ** 2 + 1, width),
            "text/token_embedding": (49408, text),
            "text/position_embedding": (77, text),
        }
        for tower, size in (("image", width), ("text", text)):
            for i in range(depth):
                shapes[f"{tower}/blocks_{i}/norm_1/scale"] = (size,)
            shapes[f"{tower}/blocks_0/mlp/in/kernel"] = (size, 4 * size)
        config = ClipConfig.from_shapes(shapes, activation="gelu")
        assert (config.image.num_heads, config.image.depth) == (heads, depth)
        assert config.text.num_heads == text // 64
        assert (config.image_size, config.grid) == (224, 224 // side)
        assert (config.vocab_size, config.context_length) == (49408, 77)


def _without(name):
    return {k: v for k, v in reference.huggingface_weights().items() if k != name}


@pytest.mark.parametrize(
    ("weights", "what"),
    [
        (_without("logit_scale"), "has no tensor logit_scale"),
        (_without("vision_model.encoder.layers.1.mlp.fc1.weight"), "layers.1.mlp.fc1"),
        (reference.openai_weights() | {"logit_bias": np.zeros(())}, "logit_bias"),
        (reference.openai_weights() | {"visual.layer1.0.w": np.zeros(3)}, "ResNet"),
        ({"a": np.zeros(3)}, "has no tensor"),
        (
            reference.huggingface_weights() | {"logit_scale": np.array(np.nan)},
            "NaN or infinite",
        ),
        (
            reference.huggingface_weights() | {"logit_scale": np.array(3)},
            "expected floating point",
        ),
    ],
)
def test_other_models_are_refused(tmp_path, weights, what):
    with pytest.raises(ValueError, match=what):
        clip.read(_folder(tmp_path / "w", weights=weights))


def test_a_folder_without_weights_or_config(tmp_path):
    with pytest.raises(ValueError, match="holds no CLIP weights"):
        clip.read(tmp_path)
    with pytest.raises(ValueError, match="no such file or folder"):
        clip.read(tmp_path / "x.pt")
    _folder(tmp_path / "w")
    (tmp_path / "w" / "config.json").unlink()
    with pytest.raises(ValueError, match="put it beside them"):
        clip.read(tmp_path / "w")


class _Evil:
    def __reduce__(self):
        return print, ("run",)


def test_a_scripted_archive_runs_nothing(tmp_path):
    path = tmp_path / "evil.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/constants.pkl", b"")
        archive.writestr("x/data.pkl", pickle.dumps(_Evil()))
    with pytest.raises(ValueError, match="which no state dict needs"):
        state_dict.read(path)
    # Two modules that contain each other, and no tensor.
    loop = (
        b"\x80\x02c__torch__\nA\n)\x81q\x00}(X\x01\x00\x00\x00ah\x00"
        b"X\x01\x00\x00\x00bh\x00ub."
    )
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/constants.pkl", b"")
        archive.writestr("x/data.pkl", loop)
    with pytest.raises(ValueError, match="more than 10,000 modules"):
        state_dict.read(path)
