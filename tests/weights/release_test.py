"""The first author's release, in small: `.pt` -> workdir -> predict, evaluate, `.pt`."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from configs import richhf_release
from rahf import images
from rahf.bin import eval_heatmaps, eval_keywords, eval_scores, export, predict
from rahf.checkpoints import importing, restore
from rahf.datasets.scenes import Scenes
from rahf.input import vocabulary
from rahf.weights import export_layout, export_torch
from tests.support.quick_xla import ONE_DEVICE

ROOT = pathlib.Path(__file__).parents[2]
SIZES = {
    "input.image_size": 64,
    "input.text_length": 24,
    "input.target_length": 16,
    "model.vit.width": 32,
    "model.vit.depth": 1,
    "model.vit.mlp_dim": 64,
    "model.vit.num_heads": 2,
    "model.t5.embed_dim": 64,
    "model.t5.head_dim": 16,
    "model.t5.num_heads": 4,
    "model.t5.mlp_dim": 64,
    "model.t5.encoder_layers": 1,
    "model.t5.decoder_layers": 1,
    "model.t5.vocab_size": 512,
}


@pytest.fixture(scope="module", name="params")
def _params():
    config = richhf_release.get_config()
    config.update_from_flattened_dict(SIZES)
    rng = np.random.default_rng(0)
    shapes = importing.parameter_shapes(config)
    return {
        name: rng.normal(0, 0.1, shape).astype(np.float32)
        for name, shape in sorted(shapes.items())
    }


@pytest.fixture(scope="module", name="released")
def _released(params, tmp_path_factory):
    path = tmp_path_factory.mktemp("released") / "rahf_model.pt"
    export_torch.write_state_dict(path, export_layout.to_release(params))
    return path


@pytest.fixture(scope="module", name="workdir")
def _workdir(released):
    """The command of docs/weights.md, with the sizes beside it."""
    folder = released.parent / "W"
    done = subprocess.run(
        [sys.executable, "-m", "rahf.bin.import_weights", f"--output={folder}"]
        + ["--config=configs/richhf_release.py:richhf", f"--richhf={released}"]
        + [f"--config.input.vocabulary={vocabulary.SCENES}"]
        + [f"--config.{key}={value}" for key, value in SIZES.items()],
        cwd=ROOT,
        env=os.environ | ONE_DEVICE,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "0 resized, 0 missing, 2 unexpected" in done.stdout
    return folder


def test_every_parameter_bit_for_bit(params, workdir):
    found = restore.read_params(workdir)
    assert found.keys() == params.keys()
    for name, value in params.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def test_exported_again_it_is_the_same_file(released, workdir, tmp_path):
    export.main([f"--checkpoint={workdir}", "--format=richhf", f"--output={tmp_path}"])
    assert (tmp_path / "richhf.pt").read_bytes() == released.read_bytes()


def test_predict(workdir, tmp_path):
    for name, side in (("a", 64), ("b", 80)):
        Image.new("RGB", (side, 64), "red").save(tmp_path / f"{name}.png")
    predict.main(
        [f"--checkpoint={workdir}", "--prompt=a red, big circle", f"{tmp_path}"]
        + [f"--output={tmp_path / 'out'}"]
    )
    text = (tmp_path / "out" / "predictions.jsonl").read_text("utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["id"] for line in lines] == ["a", "b"]
    assert lines[0]["scores"].keys() == {
        "plausibility",
        "alignment",
        "aesthetics",
        "overall",
    }
    assert [word["text"] for word in lines[0]["words"]] == ["a", "red", "big", "circle"]
    heatmap = images.read_heatmap(
        tmp_path / "out" / lines[1]["heatmaps"]["misalignment"]
    )
    assert heatmap.shape == (64, 80)


def test_the_eval_binaries(workdir, tmp_path):
    flags = [f"--checkpoint={workdir}", "--examples=3", "--batch_size=3"]
    # RichHF-18K is looked for, and its place may be said later.
    with pytest.raises(
        SystemExit, match="config.input.richhf.data_dir='/none'.*docs/richhf"
    ):
        eval_scores.main(
            [*flags, "--set=input.richhf.data_dir=/none", f"--output={tmp_path}"]
        )
    scenes = ["--set=task.name=scenes_multihead", f"--output={tmp_path}"]
    for binary in (eval_heatmaps, eval_scores, eval_keywords):
        name = binary.__name__.rpartition("eval_")[2]
        binary.main([*flags, *scenes])
        found = json.loads((tmp_path / f"{name}.json").read_text())
        assert found["set"] == ["task.name=scenes_multihead"]
        assert {metrics["n"] for metrics in found["metrics"].values()} == {3}
    rows = (tmp_path / "scores.examples.jsonl").read_text("utf-8").splitlines()
    scene = Scenes("test", 64, difficulty="simple")[0]
    assert json.loads(rows[0])["uid"] == scene["uid"]
    assert not (workdir / "eval").exists()
    for flag, message in (
        ("--set=model.dtype=float32", "expected KEY=VALUE with a key of the config's"),
        (
            "--set=input.image_size=32",
            "the parameters depend on .*input.image_size, .*cannot be set",
        ),
        ("--set=task.name", "expected KEY=VALUE"),
    ):
        with pytest.raises(SystemExit, match=message):
            eval_scores.main([*flags, flag, f"--output={tmp_path}"])
    with pytest.raises(SystemExit):
        eval_scores.main([*flags, *scenes[:1]])
