"""`rahf.bin.import_weights` and what may be done with the workdir it writes."""

import errno
import json
import os
import pathlib
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import serialization
from safetensors.numpy import save_file

from rahf import durable
from rahf.checkpoints import changes, importing, restore, start
from rahf.input import vocabulary
from rahf.weights import export_layout, matching
from tests.support import tiny
from tests.support.quick_xla import ONE_DEVICE

ROOT = pathlib.Path(__file__).parents[2]
HEADS = ("visual_token_projection/*", "heatmap_predictor_*", "score_predictor_*")
SIZES = {
    "vit": {"width": 32, "depth": 1, "mlp_dim": 64, "num_heads": 2},
    "t5": {"embed_dim": 64, "head_dim": 16, "num_heads": 4, "mlp_dim": 64}
    | {"encoder_layers": 1, "decoder_layers": 1},
}


def _config():
    config = tiny.config()
    for part, sizes in SIZES.items():
        config.model[part].update(sizes)
    config.input.vocabulary = str(vocabulary.SCENES)
    return config


@pytest.fixture(scope="module", name="shapes")
def _shapes():
    return importing.parameter_shapes(_config())


@pytest.fixture(scope="module", name="files")
def _files(shapes, tmp_path_factory):
    """A ViT of another grid as `.npz`, and a T5X checkpoint."""
    folder = tmp_path_factory.mktemp("published")
    rng = np.random.default_rng(0)
    random = lambda part: {
        name.removeprefix(f"{part}/"): rng.standard_normal(shape).astype(np.float32)
        for name, shape in shapes.items()
        if name.startswith(f"{part}/")
    }
    vit = random("vit") | {"head/kernel": np.zeros((32, 10), np.float32)}
    vit["Transformer/posembed_input/pos_embedding"] = np.ones((1, 10, 32), np.float32)
    np.savez(folder / "vit.npz", **vit)
    tree = {"version": 3, "optimizer": {"target": matching.unflatten(random("t5"))}}
    (folder / "t5").mkdir()
    (folder / "t5" / "checkpoint").write_bytes(serialization.msgpack_serialize(tree))
    return {"vit": str(folder / "vit.npz"), "t5": str(folder / "t5")}


@pytest.fixture(scope="module", name="imported")
def _imported(files, tmp_path_factory):
    """The command, as a user calls it."""
    folder = tmp_path_factory.mktemp("imported") / "W"
    sizes = [
        f"--config.model.{part}.{name}={value}"
        for part, fields in SIZES.items()
        for name, value in fields.items()
    ]
    done = subprocess.run(
        [sys.executable, "-m", "rahf.bin.import_weights", f"--output={folder}"]
        + ["--config=configs/scenes_multihead.py", "--config.input.image_size=32"]
        + ["--config.model.vit.stem=patch"]
        + [f"--config.input.vocabulary={vocabulary.SCENES}"]
        + [f"--vit={files['vit']}", f"--t5={files['t5']}", *sizes],
        cwd=ROOT,
        env=os.environ | ONE_DEVICE,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def test_what_is_written(imported, shapes, files):
    folder, printed = imported
    assert "unexpected vit/head/kernel [32, 10]" in printed
    assert "pos_embedding [1, 5, 32] from [1, 10, 32]" in printed
    params = restore.read_params(folder)
    parts = {k: v for k, v in shapes.items() if k.split("/")[0] in ("vit", "t5")}
    assert {name: value.shape for name, value in params.items()} == parts
    with np.load(files["vit"]) as vit:
        np.testing.assert_array_equal(params["vit/cls"], vit["cls"])
    report = json.loads((folder / matching.REPORT_FILE).read_text())
    statuses = [row["status"] for row in report["tensors"]]
    assert statuses.count("loaded") == len(parts) - 1
    assert statuses.count("resized") == statuses.count("unexpected") == 1
    assert (folder / "vocabulary.model").read_bytes() == vocabulary.SCENES.read_bytes()


def _fresh(shapes):
    return matching.unflatten({k: jnp.zeros(v) for k, v in shapes.items()})


def test_training_starts_from_it(imported, shapes, tmp_path):
    folder, _ = imported
    config = _config()
    config.init_from = str(folder)
    with pytest.raises(ValueError, match="tensors are missing"):
        start.start_from(config, tmp_path, _fresh(shapes))
    config.init_expect_missing = HEADS
    params = matching.flatten(start.start_from(config, tmp_path, _fresh(shapes)))
    imported_params = restore.read_params(folder)
    for name, value in params.items():
        expected = imported_params.get(name, 0)
        np.testing.assert_array_equal(value, expected, err_msg=name)
    # Its pieces are those of its vocabulary: another would be noise.
    other = tmp_path / "other.model"
    other.write_bytes(vocabulary.SCENES.read_bytes() + b"\x1a\x02\x32\x00")
    config.input.vocabulary = str(other)
    with pytest.raises(ValueError, match="vocabulary.model, which differs"):
        start.start_from(config, tmp_path, _fresh(shapes))


def test_parts_do_not_predict_and_are_no_run(imported):
    folder, _ = imported
    with pytest.raises(ValueError, match="imported parts, t5 and vit, without heads"):
        restore.restore_for_inference(folder)
    with pytest.raises(ValueError, match="start one from them with --config.init_from"):
        changes.compare(folder, _config())


def test_mistakes(files, imported, tmp_path):
    run = lambda config=None, output=tmp_path / "W", **sources: (
        importing.import_weights(config or _config(), output, **sources)
    )
    with pytest.raises(ValueError, match="or --richhf alone; got none"):
        run()
    with pytest.raises(ValueError, match="got --t5, --richhf"):
        run(richhf="a.pt", t5="b")
    with pytest.raises(ValueError, match="already holds a checkpoint"):
        run(output=imported[0], **files)
    with pytest.raises(
        ValueError, match="--vit=/none: expected an AugReg.*does not exist"
    ):
        run(vit="/none")
    with pytest.raises(
        ValueError, match="--t5=.*expected a T5X checkpoint_<step> folder"
    ):
        run(t5=files["vit"])
    with pytest.raises(ValueError, match="does not exist"):
        run(richhf=files["vit"] + "x")
    pointer = tmp_path / "pointer.npz"
    pointer.write_text("version https://git-lfs.github.com/spec/v1\nsize 330\n")
    for source in ("vit", "richhf"):
        with pytest.raises(ValueError, match=r"pointer.npz.*git-lfs pointer, or was"):
            run(**{source: str(pointer)})
    config = _config()
    config.input.vocabulary = "scenes"
    with pytest.raises(ValueError, match="--config.input.vocabulary=spiece.model"):
        run(config, t5=files["t5"])
    config = _config()
    config.model.vit.depth = 2
    with pytest.raises(ValueError, match="12 tensors are missing|16 tensors are"):
        run(config, vit=files["vit"])
    config = _config()
    config.model.t5.vocab_size = 640
    with pytest.raises(
        ValueError, match=r"\[512, 64\] in the checkpoint, \[640, 64\] in the model"
    ):
        run(config, t5=files["t5"])
    config = _config()
    config.model.t5.encoder_layers = config.model.t5.decoder_layers = 0
    with pytest.raises(ValueError, match=r"config\.model\.t5\.decoder_layers=1"):
        run(config, t5=files["t5"])
    assert not (tmp_path / "W").exists()
    config = _config()
    config.model.t5.vocab_size = 640
    report = run(config, t5=files["t5"], resize_vocabulary=True)
    assert report.names("resized") == ["t5/token_embedder/embedding"]
    table = restore.read_params(tmp_path / "W")["t5/token_embedder/embedding"]
    np.testing.assert_allclose(table[600], table[:512].mean(axis=0), atol=1e-6)
    assert jax.tree.leaves(table)[0].shape == (640, 64)


def _hugging_face(shapes, folder):
    """The ViT as Hugging Face saves it, but for its config.json."""
    rows = export_layout.make_rows(k for k in shapes if k.startswith("vit/"))
    state = {
        row.theirs[0].removeprefix("vit."): np.ascontiguousarray(
            row.turn.out(np.zeros(shapes[row.ours], np.float32))
        )
        for row in rows
    }
    folder.mkdir()
    save_file(state, folder / "model.safetensors")
    return folder


def test_a_hugging_face_vit_is_compared(shapes, tmp_path):
    folder = _hugging_face(shapes, tmp_path / "vit")
    theirs = {"hidden_size": 32, "num_hidden_layers": 1, "intermediate_size": 64}
    theirs |= {"num_attention_heads": 4, "hidden_act": "gelu_new"}
    (folder / "config.json").write_text(json.dumps(theirs | {"layer_norm_eps": 1e-6}))
    run = lambda output: importing.import_weights(_config(), output, vit=str(folder))
    with pytest.raises(ValueError, match=r"\(set --config.model.vit.num_heads=4\)"):
        run(tmp_path / "W")
    assert not (tmp_path / "W").exists()
    (folder / "config.json").unlink()
    report = run(tmp_path / "W")
    assert "\nNote: " in report.summary() and "was not compared" in report.summary()
    [note] = json.loads((tmp_path / "W" / matching.REPORT_FILE).read_text())["notes"]
    assert note.startswith(f"{folder}/config.json does not exist")
    assert not (tmp_path / "W" / durable.LOCK_FILE).exists()


def test_an_output_that_cannot_be_written_is_told_first(tmp_path, monkeypatch):
    """Before the source is looked for: there is none."""
    run = lambda output: importing.import_weights(_config(), output, vit="/none.npz")
    (tmp_path / "file").write_text("")
    for output in (tmp_path / "file" / "x", "/proc/none"):
        with pytest.raises(ValueError, match=f"--output={output} cannot be written: "):
            run(output)
    full = shutil._ntuple_diskusage(9, 8, 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: full)
    with pytest.raises(
        ValueError, match=r"--output=.*/W needs \d+ MB, but its disk has"
    ):
        run(tmp_path / "W")
    assert not (tmp_path / "W").exists()


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left"),
        ValueError("RESOURCE_EXHAUSTED\n No space"),
    ],
)
def test_a_disk_that_fills(files, tmp_path, monkeypatch, error):
    def full(*_, **__):
        raise error

    monkeypatch.setattr(importing.ocp.CheckpointManager, "save", full)
    with pytest.raises(ValueError, match="--output=.*No space") as caught:
        importing.import_weights(_config(), tmp_path / "W", vit=files["vit"])
    assert "\n" not in str(caught.value)
    monkeypatch.undo()
    importing.import_weights(_config(), tmp_path / "W", vit=files["vit"])
    assert restore.read_params(tmp_path / "W")
