"""Folders of pipelines: what is read, and what is refused before anything is loaded."""

import json
import shutil

import pytest

from rahf.generators import diffusers_folder

_INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "_diffusers_version": "0.42.1",
    "requires_safety_checker": False,
    "safety_checker": [None, None],
    "scheduler": ["diffusers", "EulerDiscreteScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "unet": ["diffusers", "UNet2DConditionModel"],
}


@pytest.fixture(name="folder")
def _folder(tmp_path):
    folder = tmp_path / "pipe"
    for name in ("scheduler", "text_encoder", "unet"):
        (folder / name).mkdir(parents=True)
        (folder / name / "config.json").write_text("{}")
    (folder / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"unet")
    (folder / "text_encoder" / "model.safetensors").write_bytes(b"text")
    _index(folder)
    return folder


def _index(folder, **changes):
    text = json.dumps(_INDEX | changes)
    (folder / diffusers_folder.INDEX_FILE).write_text(text)


def test_what_a_folder_holds(folder):
    found = diffusers_folder.read(folder)
    assert found.pipeline == "StableDiffusionPipeline"
    assert found.absent == ("safety_checker",)
    assert found.components["unet"] == ("diffusers", "UNet2DConditionModel")
    assert found.variant is None
    assert diffusers_folder.is_pipeline(folder)
    assert not diffusers_folder.is_pipeline(folder / "unet")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"unet": ["my_unet", "evil.Net"]}, r"component 'unet' is \['my_unet', 'evil"),
        ({"_class_name": ["pipeline", "Mine"]}, r"its pipeline is \['pipeline'"),
        ({"../unet": ["diffusers", "X"]}, "component '../unet'"),
    ],
)
def test_code_of_its_own_is_refused(folder, changes, message):
    _index(folder, **changes)
    with pytest.raises(ValueError, match="brings code of its own.*" + message):
        diffusers_folder.read(folder)


def test_a_module_beside_the_weights_is_refused(folder):
    _index(folder, unet=["my_unet", "Net"])
    (folder / "unet" / "my_unet.py").write_text("raise SystemExit")
    with pytest.raises(ValueError, match="is in unet/my_unet.py"):
        diffusers_folder.read(folder)


def test_pickled_weights_are_refused(folder):
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    before = diffusers_folder.read(folder).digest()
    (folder / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"pickle")
    # Beside safetensors they are not read.
    assert diffusers_folder.read(folder).digest() == before
    weights.unlink()
    message = "expected weights as .safetensors, found only diffusion_pytorch_model.bin"
    with pytest.raises(ValueError, match=message):
        diffusers_folder.read(folder)


def test_a_variant_is_found(folder):
    for path in list(folder.rglob("*.safetensors")):
        half = path.with_name(path.name.replace(".safetensors", ".fp16.safetensors"))
        shutil.copy(path, half)
    assert diffusers_folder.read(folder).variant is None
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    assert diffusers_folder.read(folder).variant == "fp16"
    (folder / "unet" / "diffusion_pytorch_model.fp16.safetensors").rename(
        folder / "unet" / "diffusion_pytorch_model.bf16-00001-of-00002.safetensors"
    )
    (folder / "text_encoder" / "model.safetensors").unlink()
    with pytest.raises(
        ValueError, match="no variant .* for all components: bf16, fp16"
    ):
        diffusers_folder.read(folder)


def test_a_copy_has_its_digest_and_a_change_does_not(folder, tmp_path):
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(bytes(3 * 2**20))
    before = diffusers_folder.read(folder).digest()
    copy = shutil.copytree(folder, tmp_path / "copy")
    assert diffusers_folder.read(copy).digest() == before
    data = bytearray(3 * 2**20)
    data[-1] = 1
    weights.write_bytes(data)
    assert diffusers_folder.read(folder).digest() != before


def test_what_is_no_pipeline(folder, tmp_path):
    with pytest.raises(
        ValueError, match="no such folder. Nothing is downloaded: fetch"
    ):
        diffusers_folder.read("stabilityai/stable-diffusion-xl-base-1.0")
    with pytest.raises(ValueError, match="has no model_index.json; save a single-file"):
        diffusers_folder.read(folder / "unet")
    for path in folder.rglob("*.safetensors"):
        path.unlink()
    with pytest.raises(ValueError, match="holds no weights; was its download"):
        diffusers_folder.read(folder)
    for text, message in (
        ('{"_class_name": 3}', "expected the name of a pipeline as _class_name, got 3"),
        ("[]", "as _class_name, got None"),
        ("{", "model_index.json: "),
    ):
        (folder / "model_index.json").write_text(text)
        with pytest.raises(ValueError, match=message):
            diffusers_folder.read(folder)
