"""Models and weights of strangers: no code of theirs runs, and nothing odd is loaded."""

import json
import os
import pickle
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

import rahf
from rahf import images
from rahf.checkpoints import restore, trust
from rahf.checkpoints import workdir as workdirs
from rahf.evaluation.examples import JudgedExample
from rahf.export import standalone
from rahf.reports import run_page
from rahf.weights import augreg, exported, huggingface, state_dict, unpickling
from tests.support import tiny


@pytest.fixture(scope="module", name="folder")
def _folder(tmp_path_factory):
    """A model as rahf.bin.export leaves it, its parameters noise."""
    folder = tmp_path_factory.mktemp("exported") / "model"
    config = tiny.config()
    workdirs.write_config(folder, config)
    exported.write_params(folder / exported.PARAMS_FILE, _noise(config), step=7)
    return folder


def _noise(config):
    rng = np.random.default_rng(0)
    shapes = trust.parameter_shapes(config)
    return {k: rng.normal(0, 0.1, v).astype(np.float32) for k, v in shapes.items()}


def _copy(folder, to):
    to.mkdir(exist_ok=True)
    for path in folder.iterdir():
        (to / path.name).write_bytes(path.read_bytes())
    return to


def _ask_for(folder, modules, **task):
    config = json.loads((folder / "config.json").read_text())
    config["task"] |= {"modules": modules} | task
    (folder / "config.json").write_text(json.dumps(config))


@pytest.fixture(name="mine")
def _mine(folder, tmp_path, monkeypatch):
    """A model with code in many places, and the folders from which it can be found."""
    mine = _copy(folder, tmp_path / "model")
    code = f"open({str(tmp_path / 'ran')!r}, 'w')"
    for place in (mine, mine / "deep", mine / "deep" / "deeper", mine / "package"):
        place.mkdir(exist_ok=True)
        for name in ("payload", "ev[i]l", "\ufb01nd"):
            (place / f"{name}.py").write_text(code)
    (mine / "package" / "__init__.py").write_text(code)
    with zipfile.ZipFile(mine / "code.zip", "w") as archive:
        archive.writestr("zipped.py", code)
        archive.writestr("inside/", "")
        archive.writestr("inside/zipped.py", code)
    (tmp_path / "linked").symlink_to(mine)
    (mine / "away.py").symlink_to(tmp_path / "away.py")
    (tmp_path / "away.py").write_text(code)
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "link.py").symlink_to(mine / "payload.py")
    # A package of the user's own that looks for namesakes, as pkgutil documents it.
    own = tmp_path / "own" / "deep"
    own.mkdir(parents=True)
    (own / "__init__.py").write_text(
        "__path__ = __import__('pkgutil').extend_path(__path__, __name__)"
    )
    monkeypatch.syspath_prepend(tmp_path / "own")
    yield mine
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("here", "entry", "module"),
    [
        ("..", "", "model.payload"),
        (".", "", "payload"),
        (".", "", "\ufb01nd"),
        ("..", "", "model.package"),
        ("..", "", "model.deep.payload"),
        ("..", "", "model.deep.deeper.payload"),
        (".", "", "deep.payload"),
        (".", "", "away"),
        ("..", "", "linked.payload"),
        ("..", "", "shared.link"),
        ("/", "{}/model/code.zip", "zipped"),
        ("/", "{}/linked/code.zip", "inside.zipped"),
        ("/", "{}/linked", "payload"),
        ("..", "model/deep/..", "payload"),
    ],
)
def test_a_model_brings_no_code(mine, monkeypatch, here, entry, module):
    _ask_for(mine, [module], targets=["a_target_of_its_own"])
    monkeypatch.chdir(mine / here)
    monkeypatch.syspath_prepend(entry.format(mine.parent))
    for spelled in (mine, os.path.relpath(mine), mine.parent / "linked"):
        with pytest.raises(ValueError, match=f"names '{module}', .* must not bring"):
            rahf.load(spelled)


@pytest.mark.parametrize(
    ("modules", "message"),
    [
        (["ev[i]l"], r"names 'ev\[i\]l'; expected a module such as"),
        (["model.ev[i]l"], "expected a module such as"),
        ([".payload"], "expected a module such as"),
        ([""], "expected a module such as"),
        (["deep/payload"], "expected a module such as"),
        ([["payload"]], "expected a module such as"),
        (["pip.__main__"], "expected a module such as"),
        ("payload", "modules is 'payload'; expected a list of modules"),
        (["antigravity"], "is part of Python's standard library"),
        (["os.path"], "is part of Python's standard library"),
        (["test.support"], "is part of Python's standard library"),
    ],
)
def test_names_of_modules(mine, monkeypatch, modules, message):
    _ask_for(mine, modules, targets=["a_target_of_its_own"])
    monkeypatch.chdir(mine)
    monkeypatch.syspath_prepend("")
    with pytest.raises(ValueError, match=message):
        rahf.load(mine)
    assert "antigravity" not in sys.modules


def test_modules_of_ones_own_are_imported(folder, tmp_path, monkeypatch):
    """What lies elsewhere on the path, be it of a name that the folder has too."""
    mine = _copy(folder, tmp_path / "model")
    for place in (tmp_path / "own", mine):
        (place / "space").mkdir(parents=True)
        (place / "space" / "targets_of_mine.py").write_text("")
    monkeypatch.syspath_prepend(mine)
    monkeypatch.syspath_prepend(tmp_path / "own")
    modules = [
        "tests.support.example_task.warmth",
        "space.targets_of_mine",
        "not_installed",
    ]
    _ask_for(mine, modules)
    assert restore.restore_for_inference(mine)[2] == 7


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x.pop("t5/encoder/encoder_norm/scale"), r"1 tensors are missing"),
        (lambda x: x.update({"vit/cls": np.zeros((1, 1, 3), "f4")}), r"other shapes"),
        (
            lambda x: x.update(
                {"vit/Transformer/posembed_input/pos_embedding": np.ones((1, 10, 32))}
            ),
            "no vit/Transformer/posembed_input/pos_embedding of that shape",
        ),
        (lambda x: x.update({"more": np.zeros(3, "f4")}), "the model has no more"),
        (lambda x: x["vit/cls"].fill(np.nan), "vit/cls holds NaN or infinite"),
        (lambda x: x.update({"vit/cls": np.ones((1, 1, 32), "i1")}), "has dtype int8"),
    ],
)
def test_parameters_must_be_those_of_the_config(folder, tmp_path, change, message):
    for name in ("config.json", "vocabulary.model"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    params = _noise(tiny.config())
    assert params["vit/cls"].shape == (1, 1, 32)
    change(params)
    exported.write_params(tmp_path / exported.PARAMS_FILE, params, step=7)
    with pytest.raises(ValueError, match=message):
        rahf.load(tmp_path)


def test_tables_that_are_tied_must_be_equal(tmp_path):
    table = np.ones((20, 8), np.float32)
    wanted = {"t5/token_embedder/embedding": (20, 8)}
    names = ("shared.weight", "encoder.embed_tokens.weight", "lm_head.weight")
    save_file({name: table for name in names}, tmp_path / "model.safetensors")
    [found] = huggingface.read(tmp_path, "t5", wanted).values()
    np.testing.assert_array_equal(found, table)
    save_file({names[0]: table, names[2]: 5 * table}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"shared.weight and t5.lm_head.weight differ"):
        huggingface.read(tmp_path, "t5", wanted)


def test_a_pickle_cannot_change_the_reader(tmp_path):
    """BUILD sets attributes of what was named: here the defaults of a function."""
    body = pickle.dumps({"__defaults__": (1, 2, 3)}, 2)[2:-1]
    code = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nN" + body + b"\x86b."
    with zipfile.ZipFile(tmp_path / "x.pt", "w") as archive:
        archive.writestr("archive/data.pkl", code)
    before = unpickling._rebuild_tensor.__defaults__
    with pytest.raises(ValueError, match="x.pt is damaged or not a state dict"):
        state_dict.read(tmp_path / "x.pt")
    assert unpickling._rebuild_tensor.__defaults__ == before


@pytest.mark.parametrize(
    "content", ["[]", '{"weight_map": {"a": 3}}', '{"weight_map": {"a": null}}']
)
def test_an_index_that_is_none(tmp_path, content):
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(content)
    with pytest.raises(ValueError, match="is not a safetensors index"):
        huggingface.read_safetensors(path)


def test_an_npz_that_is_damaged_or_holds_other_things(tmp_path):
    path = tmp_path / "vit.npz"
    np.savez_compressed(path, cls=np.arange(5000.0))
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 40] = bytes(40)
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"is not a complete \.npz file"):
        augreg.read(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("notes.txt", "hello")
    with pytest.raises(ValueError, match=r"notes.txt is not an array"):
        augreg.read(path)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "I;16", "L", "1", "CMYK"])
def test_the_exported_script_reads_images_as_training_does(tmp_path, mode):
    y, x = np.mgrid[:24, :40]
    pixels = np.stack([x * 6, y * 10, 250 - x * 3, 255 - 6 * x], -1).astype(np.uint8)
    image = Image.fromarray(pixels)
    if mode == "I;16":
        image = Image.fromarray((x * 1500).astype(np.uint16))
    elif mode == "P":
        image = image.convert("RGB").quantize(16)
        image.info["transparency"] = 3
    elif mode != "RGBA":
        image = image.convert(mode)
    path = tmp_path / ("x.tiff" if mode == "CMYK" else "x.png")
    image.save(path)
    expected = images.read_image(path).astype(int)
    found = np.asarray(standalone.read_image(path)).astype(int)
    assert abs(found - expected).max() <= 1


def test_half_a_character_does_not_cost_the_page(tmp_path):
    example = JudgedExample(
        image=np.zeros((4, 4, 3), np.uint8),
        prompt="bad \ud83d word",
        name="caf\udce9.png",
        scores={},
        heatmaps={},
    )
    report = run_page.RunReport(title="t", examples=[example])
    path = run_page.write_report(tmp_path / "page.html", report)
    assert "bad ? word" in path.read_text("utf-8")


def test_prompts_are_texts(folder):
    predictor = rahf.load(folder)
    picture = np.zeros((32, 32, 3), np.uint8)
    for prompts in ([None], [float("nan")], [b"cat"]):
        with pytest.raises(ValueError, match=r"prompts\[0\]: expected text, got"):
            predictor.predict([picture], prompts)
