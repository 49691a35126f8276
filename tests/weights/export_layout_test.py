"""The release's layout and its file: names, axes, and a round trip without PyTorch."""

import collections
import io
import pickle
import zipfile

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rahf.models.batch import example_batch
from rahf.models.heads import HeadConfig, _Deconv
from rahf.models.rahf import make_model
from rahf.weights import export_layout, export_torch, matching
from tests.support import tiny


def _shapes(**changes):
    c = tiny.config("multihead")
    c.model.heatmap_head.name = c.model.score_head.name = "paper"
    for key, value in changes.items():
        setattr(c.model.t5, key, value)
    params = jax.eval_shape(
        lambda key: make_model(c).init(key, example_batch(c))["params"],
        jax.random.key(0),
    )
    flat = matching.flatten(nn.unbox(params))
    return {name: leaf.shape for name, leaf in flat.items()}


@pytest.fixture(scope="module")
def shapes():
    return _shapes()


@pytest.fixture(scope="module")
def params(shapes):
    rng = np.random.default_rng(0)
    return {
        name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()
    }


@pytest.fixture(scope="module")
def state(params):
    return export_layout.to_release(params)


def test_back_again_bit_for_bit(params, shapes, state):
    back = export_layout.from_release(state, shapes)
    assert list(back) == list(params)
    for name, array in params.items():
        np.testing.assert_array_equal(back[name], array, err_msg=name)


def test_every_value_is_written_once_but_for_the_pooler(params, state):
    unique = {id(array): array for array in state.values()}.values()
    width = state["vit.layernorm.weight"].size
    pooler = width * width + width
    assert sum(x.size for x in unique) == sum(x.size for x in params.values()) + pooler
    assert not state["vit.pooler.dense.weight"].any()


def test_names_and_shapes_of_the_release(state):
    """As transformers 4 and reference heads have them, for this size of model."""
    expected = {
        "vit.embeddings.cls_token": (1, 1, 32),
        "vit.embeddings.position_embeddings": (1, 5, 32),
        "vit.embeddings.patch_embeddings.projection.weight": (32, 3, 16, 16),
        "vit.encoder.layer.0.attention.attention.key.bias": (32,),
        "vit.encoder.layer.0.attention.output.dense.weight": (32, 32),
        "vit.encoder.layer.0.intermediate.dense.weight": (64, 32),
        "vit.encoder.layer.0.output.dense.weight": (32, 64),
        "vit.encoder.layer.0.layernorm_before.weight": (32,),
        "vit.pooler.dense.bias": (32,),
        "t5.shared.weight": (512, 64),
        "t5.lm_head.weight": (512, 64),
        "t5.encoder.block.0.layer.0.SelfAttention.q.weight": (64, 64),
        "t5.encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight": (
            32,
            4,
        ),
        "t5.encoder.block.0.layer.1.DenseReluDense.wi.weight": (64, 64),
        "t5.decoder.block.0.layer.1.EncDecAttention.o.weight": (64, 64),
        "t5.decoder.block.0.layer.2.layer_norm.weight": (64,),
        "t5.decoder.final_layer_norm.weight": (64,),
        "visual_token_projection.weight": (64, 32),
        "heatmap_predictor.misalignment.conv_layers.3.weight": (32, 64, 3, 3),
        "heatmap_predictor.misalignment.conv_layers.5.scale": (32, 1, 1),
        "heatmap_predictor.misalignment.deconv_layers.0.0.weight": (32, 64, 3, 3),
        "heatmap_predictor.misalignment.deconv_layers.3.1.scale": (16, 1, 1),
        "heatmap_predictor.misalignment.conv_layers2.1.4.scale": (32, 1, 1),
        "heatmap_predictor.misalignment.last_conv2.bias": (1,),
        "score_predictor.overall.conv_layers.15.weight": (1, 4, 3, 3),
        "score_predictor.overall.conv_layers.16.scale": (1, 1, 1),
        "score_predictor.overall.linear_layers.4.weight": (1, 128),
    }
    assert {name: state[name].shape for name in expected} == expected
    assert state["t5.lm_head.weight"] is state["t5.shared.weight"]


def test_axes_are_turned_and_not_mixed(params, state):
    block = "vit/Transformer/encoderblock_0/MultiHeadDotProductAttention_1"
    kernel = params[f"{block}/query/kernel"]  # [D, H, K]
    theirs = state["vit.encoder.layer.0.attention.attention.query.weight"]
    assert theirs[1 * 16 + 3, 7] == kernel[7, 1, 3]
    kernel = params[f"{block}/out/kernel"]  # [H, K, D]
    theirs = state["vit.encoder.layer.0.attention.output.dense.weight"]
    assert theirs[7, 1 * 16 + 3] == kernel[1, 3, 7]
    kernel = params["heatmap_predictor_misalignment/stem_1/kernel"]
    theirs = state["heatmap_predictor.misalignment.conv_layers.3.weight"]
    assert theirs[5, 6, 0, 2] == kernel[0, 2, 6, 5]


def test_deconvolution_adds_up_as_in_pytorch(params, state):
    """By its definition: each input pixel adds its kernel at twice its place."""
    name = "heatmap_predictor.misalignment.deconv_layers.0.0"
    kernel, bias = state[f"{name}.weight"], state[f"{name}.bias"]  # [I, O, 3, 3]
    x = np.random.default_rng(1).standard_normal((2, 3, 32)).astype(np.float32)
    padded = np.zeros((2 * 2 + 1, 2 * 3 + 1, 64), np.float32)
    for row in range(2):
        for column in range(3):
            add = np.einsum("i,iohw->hwo", x[row, column], kernel)
            padded[2 * row : 2 * row + 3, 2 * column : 2 * column + 3] += add
    wanted = padded[1:, 1:] + bias  # padding 1 off the start, output padding 1
    ours = {
        leaf: params[f"heatmap_predictor_misalignment/deconv_0/{leaf}"]
        for leaf in ("kernel", "bias")
    }
    got = _Deconv(HeadConfig(), 64).apply({"params": ours}, jnp.asarray(x)[None])[0]
    np.testing.assert_allclose(got, wanted, atol=1e-4)


def test_t5_1_1_has_its_own_output_layer():
    shapes = _shapes(gated=True)
    zeros = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    state = export_layout.to_release(zeros)
    assert state["t5.lm_head.weight"] is not state["t5.shared.weight"]
    assert "t5.encoder.block.0.layer.1.DenseReluDense.wi_1.weight" in state
    assert set(export_layout.from_release(state, shapes)) == set(shapes)


def test_what_has_no_place_is_named():
    paths = ["t5/encoder/encoder_norm/scale", "score_predictor_x/expand/kernel"]
    with pytest.raises(ValueError, match=r"1 parameters .* score_predictor_x/expand"):
        export_layout.make_rows(paths)


class _Reader(pickle.Unpickler):
    """Reads a state dict's description with stand-ins for what PyTorch defines."""

    storages: zipfile.ZipFile

    def find_class(self, module, name):
        known = {
            "collections.OrderedDict": collections.OrderedDict,
            "torch._utils._rebuild_tensor_v2": _rebuild,
            "torch.FloatStorage": np.float32,
            "torch.BFloat16Storage": jnp.bfloat16,
            "torch.LongStorage": np.int64,
        }
        return known[f"{module}.{name}"]

    def persistent_load(self, pid):
        kind, dtype, key, place, size = pid
        assert (kind, place) == ("storage", "cpu")
        data = np.frombuffer(self.storages.read(f"archive/data/{key}"), dtype)
        assert data.size == size
        return data


def _rebuild(storage, offset, shape, strides, requires_grad, hooks):
    assert (offset, requires_grad, hooks) == (0, False, {})
    size = storage.itemsize
    strides = [stride * size for stride in strides]
    return np.lib.stride_tricks.as_strided(storage, shape, strides)


def _read(path):
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert archive.read("archive/version") == b"3\n"
        reader = _Reader(io.BytesIO(archive.read("archive/data.pkl")))
        reader.storages = archive
        return reader.load()


def test_the_file_holds_the_state(state, tmp_path):
    path = tmp_path / "model.pt"
    export_torch.write_state_dict(path, state)
    found = _read(path)
    assert isinstance(found, collections.OrderedDict)
    assert list(found) == list(state)
    for name, array in state.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array, err_msg=name)
    with zipfile.ZipFile(path) as archive:
        files = [x for x in archive.infolist() if "/data/" in x.filename]
        # The four names of the embedding share one.
        assert len(files) == len(state) - 3
        raw = path.read_bytes()
        for info in files:
            lengths = raw[info.header_offset + 26 : info.header_offset + 30]
            header = 30 + sum(np.frombuffer(lengths, "<u2").tolist())
            assert (info.header_offset + header) % 64 == 0
    again = tmp_path / "again.pt"
    export_torch.write_state_dict(again, state)
    assert again.read_bytes() == path.read_bytes()


def test_other_dtypes_and_ranks(tmp_path):
    state = {
        "half": np.arange(6).astype(jnp.bfloat16).reshape(2, 3),
        "count": np.array([1 << 40], np.int64),
    }
    export_torch.write_state_dict(tmp_path / "x.pt", state)
    found = _read(tmp_path / "x.pt")
    assert found["half"].dtype == jnp.bfloat16
    assert found["half"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert found["count"].tolist() == [1 << 40]
    with pytest.raises(ValueError, match=r"words: expected one of .*, got <U1"):
        export_torch.write_state_dict(tmp_path / "y.pt", {"words": np.array(["a"])})
