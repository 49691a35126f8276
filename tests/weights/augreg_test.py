"""ViT files: AugReg's and big_vision's `.npz`, and resizing as those codebases do."""

import jax
import ml_dtypes
import numpy as np
import pytest
from scipy import ndimage

from rahf.weights import augreg, matching, resizing

WIDTH, DEPTH = 8, 2


def _vit(side=3, patch=4):
    """A small ViT under AugReg's names."""
    rng = np.random.default_rng(0)
    shapes = {
        "cls": (1, 1, WIDTH),
        "embedding/kernel": (patch, patch, 3, WIDTH),
        "embedding/bias": (WIDTH,),
        "Transformer/posembed_input/pos_embedding": (1, side * side + 1, WIDTH),
        "Transformer/encoder_norm/scale": (WIDTH,),
        "head/kernel": (WIDTH, 5),
    }
    for i in range(DEPTH):
        block = f"Transformer/encoderblock_{i}"
        shapes |= {
            f"{block}/LayerNorm_0/scale": (WIDTH,),
            f"{block}/MultiHeadDotProductAttention_1/query/kernel": (WIDTH, 2, 4),
            f"{block}/LayerNorm_2/scale": (WIDTH,),
            f"{block}/MlpBlock_3/Dense_0/kernel": (WIDTH, 16),
        }
    return {k: rng.standard_normal(v).astype(np.float32) for k, v in shapes.items()}


def _big_vision(flat, scan):
    """The same as big_vision saves it."""
    out = {}
    for name, value in flat.items():
        for ours, theirs in (
            ("LayerNorm_2", "LayerNorm_1"),
            ("MultiHeadDotProductAttention_1", "MultiHeadDotProductAttention_0"),
            ("MlpBlock_3", "MlpBlock_0"),
            ("Transformer/posembed_input/", ""),
        ):
            name = name.replace(ours, theirs)
        out[f"params/{name}"] = value
    if not scan:
        return out
    first = "params/Transformer/encoderblock_0/"
    stacked = {
        name.replace("encoderblock_0", "encoderblock"): np.stack(
            [out[name.replace("_0/", f"_{i}/", 1)] for i in range(DEPTH)]
        )
        for name in out
        if name.startswith(first)
    }
    return stacked | {k: v for k, v in out.items() if "encoderblock" not in k}


def _check(found, flat, dtype=np.float32):
    assert found.keys() == {f"vit/{name}" for name in flat}
    for name, value in flat.items():
        np.testing.assert_array_equal(
            np.asarray(found[f"vit/{name}"], np.float32),
            value.astype(dtype).astype(np.float32),
            err_msg=name,
        )


def test_augreg(tmp_path):
    np.savez(tmp_path / "B_16.npz", **_vit())
    _check(augreg.read(tmp_path / "B_16.npz"), _vit())


@pytest.mark.parametrize("scan", [False, True])
def test_big_vision(tmp_path, scan):
    np.savez(tmp_path / "vit.npz", **_big_vision(_vit(), scan))
    _check(augreg.read(tmp_path / "vit.npz"), _vit())


def test_bfloat16_which_npz_cannot_name(tmp_path):
    flat = {k: v.astype(ml_dtypes.bfloat16) for k, v in _vit().items()}
    np.savez(tmp_path / "vit.npz", **flat)
    assert np.load(tmp_path / "vit.npz")["cls"].dtype.kind == "V"
    _check(augreg.read(tmp_path / "vit.npz"), _vit(), ml_dtypes.bfloat16)


def test_files_that_are_no_vit(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, weights=np.zeros(3))
    with pytest.raises(ValueError, match="'embedding/kernel', got weights"):
        augreg.read(path)
    np.savez(path, objects=np.array([{}], object))
    with pytest.raises(ValueError, match="x.npz: objects holds pickled objects"):
        augreg.read(path)
    np.savez(path, **_vit())
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ValueError, match="is not a complete .npz"):
        augreg.read(path)
    path.write_bytes(b"version https://git-lfs")
    with pytest.raises(ValueError, match=r"x.npz \(23 bytes\) is not a complete .npz"):
        augreg.read(path)


@pytest.mark.parametrize("class_token", [False, True])
@pytest.mark.parametrize(("old", "new"), [(14, 24), (24, 14), (3, 3), (2, 5), (4, 1)])
def test_positions_are_resized_as_scipy_zooms(class_token, old, new):
    rng = np.random.default_rng(1)
    places = rng.standard_normal((old, old, 6)).astype(np.float32)
    head = rng.standard_normal((int(class_token), 6)).astype(np.float32)
    given = np.concatenate([head, places.reshape(-1, 6)])[None]
    zoomed = ndimage.zoom(places, (new / old, new / old, 1), order=1)
    expected = np.concatenate([head, zoomed.reshape(-1, 6)])[None]
    found = resizing.positions(given, new)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_patches_give_the_tokens_of_resized_images():
    """FlexiViT's claim: a larger patch, and a kernel resized for it, change nothing."""
    rng = np.random.default_rng(2)
    kernel = rng.standard_normal((4, 4, 3, 5)).astype(np.float32)
    patch = rng.standard_normal((4, 4, 3)).astype(np.float32)
    large = np.asarray(jax.image.resize(patch, (7, 7, 3), "bilinear"))
    tokens = np.einsum("yxc,yxcd->d", patch, kernel)
    resized = resizing.patches(kernel, 7)
    assert resized.shape == (7, 7, 3, 5)
    np.testing.assert_allclose(
        np.einsum("yxc,yxcd->d", large, resized), tokens, atol=1e-4
    )


@pytest.mark.parametrize(
    ("length", "side"), [(1, 1), (2, 1), (4, 2), (5, 2), (577, 24), (576, 24), (7, 0)]
)
def test_grid(length, side):
    assert resizing.grid(length) == side


def test_rows_of_a_vocabulary():
    table = np.arange(6, dtype=np.float32).reshape(3, 2)
    np.testing.assert_array_equal(resizing.rows(table, 2, 0), table[:2])
    np.testing.assert_array_equal(resizing.rows(table, 4, 0)[3], [2, 3])
    np.testing.assert_array_equal(resizing.rows(table.T, 4, 1)[:, 3], [2, 3])


def test_an_image_of_another_class_token_is_no_other_grid():
    name = "vit/Transformer/posembed_input/pos_embedding"
    wanted = {name: np.zeros((1, 16, 4))}
    with pytest.raises(ValueError, match="config.model.vit.class_token"):
        matching.match(wanted, {name: np.zeros((1, 10, 4))}, source="x.npz")


def _t5(rows=20, gated=False, width=8):
    wide = ["wi_0", "wi_1"] if gated else ["wi"]
    flat = {"t5/token_embedder/embedding": np.ones((rows, width))}
    for name in wide:
        flat[f"t5/encoder/layers_0/mlp/{name}/kernel"] = np.ones((width, 12))
    if gated:
        flat["t5/decoder/logits_dense/kernel"] = np.ones((width, rows))
    return flat


def test_likely_causes():
    match = lambda wanted, found, **options: matching.match(
        wanted, found, source="checkpoint_1", **options
    )
    with pytest.raises(ValueError, match="T5 1.1; set config.model.t5.gated=True"):
        match(_t5(), _t5(gated=True))
    with pytest.raises(ValueError, match="T5 1.0; set config.model.t5.gated=False"):
        match(_t5(gated=True), _t5())
    with pytest.raises(ValueError, match="another size of model; see config.model.t5"):
        match(_t5(), _t5(width=4))
    with pytest.raises(
        ValueError, match=r"\[50, 8\] in the checkpoint, \[20, 8\] in the model"
    ) as caught:
        match(_t5(), _t5(rows=50))
    assert "config.model.t5.vocab_size=50" in str(caught.value)
    assert "--resize_vocabulary" in str(caught.value)
    loaded, report = match(
        _t5(gated=True), _t5(rows=50, gated=True), resize_vocabulary=True
    )
    assert loaded["t5/token_embedder/embedding"].shape == (20, 8)
    assert loaded["t5/decoder/logits_dense/kernel"].shape == (8, 20)
    assert len(report.names("resized")) == 2


def test_a_report_names_every_tensor():
    found = _t5() | {"head/kernel": np.zeros((2, 3))}
    wanted = _t5() | {"score_predictor_score/out/bias": np.zeros(1)}
    loaded, report = matching.match(
        wanted, found, source="W", expect_missing=["score_predictor_*"]
    )
    assert loaded.keys() == _t5().keys()
    assert {tensor.name for tensor in report.tensors} == wanted.keys() | found.keys()
    assert report.summary().splitlines() == [
        "W: 2 loaded, 0 resized, 1 missing, 1 unexpected",
        "  missing    score_predictor_score/out/bias [1]",
        "  unexpected head/kernel [2, 3]",
    ]
