"""Files of weights that announce more than they hold, or hold what no model has."""

import json
import types
import zipfile

import ml_dtypes
import msgpack
import numpy as np
import pytest
from flax import serialization
from safetensors.numpy import save_file

from rahf.weights import augreg, huggingface, matching, t5x

WANTED = {"t5/encoder/encoder_norm/scale": (8,)}
#: Some of the parameters of a ViT, under AugReg's names.
VIT = {"embedding/kernel": np.ones((2, 2, 3, 8), np.float32)}


def _t5x(folder, zarray):
    """A checkpoint of one array, with changes of its .zarray."""
    array = folder / "target.encoder.encoder_norm.scale"
    array.mkdir(parents=True, exist_ok=True)
    about = {"zarr_format": 2, "shape": [8], "chunks": [8], "dtype": "<f4"}
    about |= {"compressor": None, "fill_value": None, "order": "C", "filters": None}
    (array / ".zarray").write_text(json.dumps(about | zarray))
    (array / "0").write_bytes(bytes(32))
    leaf = {"scale": {"driver": "zarr"}}
    tree = {"target": {"encoder": {"encoder_norm": leaf}}, "version": 3}
    (folder / "checkpoint").write_bytes(serialization.msgpack_serialize(tree))
    return folder


@pytest.mark.parametrize(
    ("zarray", "message"),
    [
        (
            {"shape": [10**12], "chunks": [8]},
            r"encoder_norm/scale has shape \[10{12}\]",
        ),
        ({"chunks": [10**12]}, r"encoder_norm/scale has shape \[10{12}\]"),
        ({"shape": [2**62, 4], "chunks": [1, 1]}, "describes 18,446,744,073,709,551,6"),
        (
            {"shape": [8, 0], "chunks": [8, 1]},
            r"scale has shape \[8, 0\], which holds n",
        ),
        (
            {"shape": [2**70]},
            "is not a complete T5X checkpoint .array encoder/encoder_n",
        ),
        (
            {"dtype": "<i4"},
            "encoder/encoder_norm/scale has dtype int32, expected floating",
        ),
        ({"dtype": "|b1"}, "encoder/encoder_norm/scale"),
        (
            {"dtype": "<c8", "shape": [4], "chunks": [4]},
            "scale has dtype complex64, expect",
        ),
        (
            {"dtype": "<U8"},
            "is not a complete T5X checkpoint .array encoder/encoder_norm",
        ),
        (
            {"compressor": {"id": "gzip"}},
            "complete T5X checkpoint .array encoder/encoder_n",
        ),
    ],
)
def test_zarr(tmp_path, zarray, message):
    [(name, value)] = t5x.read(_t5x(tmp_path, {}), WANTED).items()
    assert name == "t5/encoder/encoder_norm/scale" and not value.any()
    with pytest.raises(ValueError, match=message) as caught:
        t5x.read(_t5x(tmp_path, zarray), WANTED)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            np.ones(8, np.int8),
            "encoder/encoder_norm/scale has dtype int8, expected float",
        ),
        ("text", "encoder/encoder_norm/scale: expected an array, got str"),
        ([1.0, 2.0], "encoder/encoder_norm/scale: expected an array, got list"),
        ({7: np.ones(8)}, "expected strings as names, got 7"),
    ],
)
def test_leaves_of_msgpack(tmp_path, value, message):
    tree = {"target": {"encoder": {"encoder_norm": {"scale": value}}}}
    # Without flax's check that names are texts.
    data = msgpack.packb(tree, default=serialization._msgpack_ext_pack)
    (tmp_path / "checkpoint").write_bytes(data)
    with pytest.raises(ValueError, match=message):
        t5x.read(tmp_path, WANTED)


def test_layers_that_are_scanned(tmp_path):
    name = "encoder/encoder/mlp/wo/kernel"
    for shape in ((4,), (4, 0, 2), (1, 2000)):
        with pytest.raises(ValueError, match=f"{name} has shape .* layers on axis 1"):
            t5x.unroll({name: np.ones(shape, np.float32)})
    np.savez(tmp_path / "x.npz", **VIT, **{"Transformer/encoderblock/a": np.float32(1)})
    with pytest.raises(ValueError, match=r"encoderblock/a has shape \[\].* on axis 0"):
        augreg.read(tmp_path / "x.npz")


def _npz(path, content: bytes, name="cls.npy", **options):
    with zipfile.ZipFile(path, "w", **options) as archive:
        archive.writestr(name, content)


def _npy(shape, descr="<f4", data=b""):
    about = repr({"descr": descr, "fortran_order": False, "shape": shape}).encode()
    about += b"\n"
    return b"\x93NUMPY\x01\x00" + len(about).to_bytes(2, "little") + about + data


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (_npy((10**12,)), {}, r"cls.npy has 0 bytes for \[10{12}\] of float32"),
        (_npy((3, 0)), {}, r"cls has shape \[3, 0\], which holds no values"),
        (_npy((-1, -4), data=bytes(16)), {}, "x.npz"),
        (_npy((2**80, 0)), {}, "holds no values"),
        (_npy((4,), "|O", bytes(16)), {}, "cls holds pickled objects, which are not"),
        (
            _npy((1,), "|V4000", bytes(4000)),
            {},
            "cls has dtype .V4000, expected numbers",
        ),
        (_npy((4,), "nonsense", bytes(16)), {}, "is not a complete .npz"),
        (_npy("many"), {}, "is not a complete .npz"),
        (b"\x93NUMPY\x01\x00\x05\x00((((\n", {}, "is not a complete .npz"),
        (b"\x93NUMPY\x09\x00\x05\x00{}\n", {}, "is not a complete .npz"),
        (
            _npy((4,), data=bytes(16)),
            {"compression": zipfile.ZIP_LZMA},
            "is compressed in a way",
        ),
    ],
)
def test_arrays_of_npz(tmp_path, content, options, message):
    _npz(tmp_path / "x.npz", content, **options)
    with pytest.raises(ValueError, match=message) as caught:
        augreg.read(tmp_path / "x.npz", WANTED)
    assert "\n" not in str(caught.value)


def test_an_npz_that_unpacks_to_far_more_than_the_model(tmp_path):
    large = np.zeros((1 << 13, 1 << 13), np.int8)  # 64 MiB, of 64 kB in the file
    np.savez_compressed(tmp_path / "x.npz", **VIT, large=large, more=np.ones(3))
    assert (tmp_path / "x.npz").stat().st_size < 1 << 18
    with pytest.raises(
        ValueError, match=r"describes 67,.*large has shape \[8192, 8192"
    ):
        augreg.read(tmp_path / "x.npz", WANTED)


def test_names_that_appear_twice(tmp_path):
    np.savez(tmp_path / "x.npz", **VIT, **{"params/embedding/kernel": np.ones(3)})
    with pytest.raises(
        ValueError, match="embedding/kernel appears twice, once as para"
    ):
        augreg.read(tmp_path / "x.npz")
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("cls.npy", _npy((1,), data=bytes(4)))
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("cls.npy", _npy((1,), data=bytes(4)))
    with pytest.raises(ValueError, match="x.npz: cls appears twice"):
        augreg.read(tmp_path / "x.npz")
    path = tmp_path / "model.safetensors"
    save_file({"vit.a": np.ones(1), "a": np.ones(1)}, path)
    with pytest.raises(ValueError, match=r"vit\.a appears twice, once as"):
        huggingface.read(path, "vit", {})
    index = {"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    for name in ("1", "2"):
        save_file({"a": np.ones(1), "b": np.ones(1)}, tmp_path / f"{name}.safetensors")
    with pytest.raises(ValueError, match=r"2\.safetensors: a is also in another file"):
        huggingface.read_safetensors(tmp_path)


@pytest.mark.parametrize("name", ["../x.safetensors", "/etc/passwd", "..", ""])
def test_an_index_stays_beside_its_files(tmp_path, name):
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(ValueError, match="which is not in its folder"):
        huggingface.read_safetensors(tmp_path)


@pytest.mark.parametrize("header", [(1 << 60), (1 << 24), 2])
def test_safetensors_of_another_length(tmp_path, header):
    path = tmp_path / "model.safetensors"
    path.write_bytes(header.to_bytes(8, "little") + b"{}" * (header < 9) + b"    ")
    with pytest.raises(ValueError, match="is not a complete safetensors file"):
        huggingface.read_safetensors(path)


def test_nan_names_its_tensor(tmp_path):
    table = np.ones((20, 8), np.float32)
    table[3, 4] = np.nan
    wanted = {"t5/token_embedder/embedding": (20, 8)}
    names = ("shared.weight", "lm_head.weight")
    save_file({name: table for name in names}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"t5\.shared\.weight holds NaN or infinite"):
        huggingface.read(tmp_path, "t5", wanted)
    bias = {f"encoder/layers_{i}/relpos_bias/rel_embedding": table for i in (0, 1)}
    with pytest.raises(
        ValueError, match="layers_0/relpos_bias/rel_embedding holds NaN"
    ):
        t5x.unroll(bias)


@pytest.mark.parametrize("dtype", [">f4", ">f8", "<f2", "<f8", ml_dtypes.bfloat16])
def test_every_floating_point_is_read(dtype):
    value = np.array([1.5, -2.0, 0.25]).astype(dtype)
    loaded, _ = match({"vit/cls": value})
    assert loaded["vit/cls"].dtype == np.dtype("=f4")
    np.testing.assert_array_equal(loaded["vit/cls"], [1.5, -2.0, 0.25])


def match(found, wanted=None):
    names = wanted or {name: np.shape(value) for name, value in found.items()}
    abstract = {k: types.SimpleNamespace(shape=v) for k, v in names.items()}
    return matching.match(abstract, found, source="x.npz")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.array([1e300]), "vit/cls holds NaN or infinite"),
        (np.array([1 + 2j]), "vit/cls has dtype complex128, expected floating point"),
        (np.array(["a"]), "vit/cls has dtype <U1, expected floating point"),
        (np.zeros(1, [("a", "f4")]), "vit/cls has dtype .*, expected floating point"),
        (
            np.zeros(1, ml_dtypes.float8_e4m3fn),
            "has dtype float8_e4m3fn, expected floating",
        ),
    ],
)
def test_everything_else_is_refused(value, message):
    with pytest.raises(ValueError, match=message):
        match({"vit/cls": value})


@pytest.mark.parametrize(
    ("extra", "cause"),
    [
        (
            "vit/Transformer/encoderblock_1/LayerNorm_0/scale",
            "config.model.vit.depth=2",
        ),
        ("vit.encoder.layer.11.output.dense.bias", "config.model.vit.depth=12"),
        ("vit.encoder.layer.0.layer_scale1.lambda1", "1 tensors have no place"),
        ("t5/encoder/layers_3/mlp/wo/kernel", "config.model.t5.encoder_layers=4"),
        ("t5.decoder.block.3.layer.0.layer_norm.weight", "t5.decoder_layers=4"),
        (
            "t5.encoder.block.0.layer.1.SelfAttention.relative_attention_bias.weight",
            "every layer has its own position bias .is this umT5",
        ),
    ],
)
def test_what_is_left_over_inside_a_stack(extra, cause):
    names = (
        "vit/Transformer/encoderblock_0/LayerNorm_0/scale",
        "t5/encoder/layers_0/mlp/wo/kernel",
        "t5/decoder/layers_0/mlp/wo/kernel",
    )
    found = dict.fromkeys(names, np.ones(2))
    with pytest.raises(ValueError, match=f"(?s)no place in the model.*{cause}|{cause}"):
        match(found | {extra: np.ones(2)}, dict.fromkeys(names, (2,)))


def test_heads_and_poolers_may_be_left_over():
    found = {
        "vit/Transformer/encoder_norm/scale": np.ones(2),
        "t5/decoder/decoder_norm/scale": np.ones(2),
    }
    left = (
        *("vit/head/kernel", "vit/pre_logits/bias", "vit/MAPHead_0/probe"),
        *("vit.pooler.dense.weight", "vit.classifier.bias"),
        # In the hub's files of T5 1.0, and read by nobody.
        "t5.decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight",
        "t5/encoder/layers_0/mlp/wo/kernel",  # a stack of which nothing is asked
    )
    wanted = {name: np.shape(value) for name, value in found.items()}
    _, report = match(found | dict.fromkeys(left, np.ones(2)), wanted)
    assert set(report.names("unexpected")) == set(left)
