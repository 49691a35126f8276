"""`rahf.bin.export` on real, tiny, untrained checkpoints, and what reads its folders."""

import errno
import json
import pathlib
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

import rahf
from rahf import targets
from rahf.bin import export as binary
from rahf.checkpoints import restore
from rahf.datasets.scenes import Scenes
from rahf.export import folder as export_lib
from rahf.export import stablehlo
from rahf.inference.predictor import Predictor
from rahf.weights import export_layout, exported, matching
from tests.support import tiny

PROMPTS = ["a red cat, left of a blue house.", "", 'he said: "cat!"  ' * 9]


def _workdir(folder, variant, heads="light"):
    """What a training run leaves, with random parameters: nothing is compiled."""
    c = tiny.config(variant)
    c.model.heatmap_head.name = c.model.score_head.name = heads
    c.input.target_length = 30  # not as long as the encoder's
    if variant == "augmented":  # one of each kind: each is compiled by itself
        c.task.targets = ("misalignment", "overall", "misaligned_words")
    tiny.write_workdir(folder, c, 7, {"plausibility/plcc": 0.5})
    results = folder / "eval" / "test"
    results.mkdir(parents=True)
    for name, examples, plcc in (("scores", 0, 0.4321), ("some", 8, 0.8765)):
        metrics = {"plausibility": {"plcc": plcc, "n": examples}}
        facts = {"step": 7, "convention": "rahf", "examples": examples}
        text = json.dumps(facts | {"metrics": metrics})
        (results / f"{name}.json").write_text(text)
    return folder


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    return _workdir(tmp_path_factory.mktemp("multihead"), "multihead")


@pytest.fixture(scope="module")
def augmented(tmp_path_factory):
    return _workdir(tmp_path_factory.mktemp("augmented"), "augmented")


@pytest.fixture(scope="module")
def paper(tmp_path_factory):
    return _workdir(tmp_path_factory.mktemp("paper"), "multihead", "paper")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    scenes = Scenes("test", 64)
    for i in range(len(PROMPTS)):
        Image.fromarray(scenes[i]["image"]).save(folder / f"{i}.png")
    return sorted(map(str, folder.iterdir()))


@pytest.fixture(scope="module")
def folder(workdir, tmp_path_factory):
    output = tmp_path_factory.mktemp("exported") / "model"
    binary.main(
        [
            f"--checkpoint={workdir}",
            "--format=safetensors",
            f"--output={output}",
            "--licence=apache-2.0",
        ]
    )
    return output


def test_the_folder_predicts_as_the_workdir_bit_for_bit(workdir, folder, pictures):
    one, other = rahf.load(workdir), rahf.load(folder)
    assert other.step == 7
    assert other.config.model == one.config.model
    expected = one.predict(pictures, PROMPTS)
    found = other.predict(pictures, PROMPTS)
    for a, b in zip(expected, found, strict=True):
        assert (a.scores, a.words) == (b.scores, b.words)
        assert len(a.words) == len(b.words)
        for name in a.heatmaps:
            np.testing.assert_array_equal(a.heatmaps[name], b.heatmaps[name])


def test_what_is_in_the_folder(folder):
    names = {path.name for path in folder.iterdir()}
    assert names == {"model.safetensors", "config.json", "vocabulary.model"} | {
        "README.md"
    }
    arrays = load_file(folder / "model.safetensors")
    assert arrays["t5/encoder/encoder_norm/scale"].shape == (64,)
    assert {array.dtype.name for array in arrays.values()} == {"float32"}
    config = json.loads((folder / "config.json").read_text())
    assert config["input"]["vocabulary"] == "vocabulary.model"  # no path of ours


def test_model_card(folder):
    card = (folder / "README.md").read_text()
    assert card.startswith("---\nlicense: apache-2.0\n")
    for row in targets.select(targets.FEEDBACK):
        assert f"| {row.name} | {row.kind.value} | {row.description} |" in card
    assert "`scenes_multihead`" in card  # the data
    assert "| Examples seen | 56 |" in card  # 7 steps of 8
    assert "On the test split, rahf convention" in card
    assert "0.432" in card and "0.876" not in card  # of all examples alone


def test_a_card_without_metrics_or_licence_says_so(folder, tmp_path):
    """Also: what was exported is exported again as it was."""
    export_lib.export(folder, tmp_path / "again", form="safetensors", step="best")
    card = (tmp_path / "again" / "README.md").read_text()
    assert "license: unknown" in card and "Ask the author" in card
    assert "Not measured" in card
    for name in ("config.json", "vocabulary.model"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()
    # The header's metadata has no order, so the bytes may differ.
    again, first = (exported.read_params(path) for path in (tmp_path / "again", folder))
    assert again[1] == first[1]
    jax.tree.map(np.testing.assert_array_equal, again[0], first[0])


def test_steps(folder):
    assert restore.restore_for_inference(folder, "best")[2] == 7
    assert restore.restore_for_inference(folder, 7)[2] == 7
    with pytest.raises(ValueError, match="has no step 6; it was exported from step 7"):
        rahf.load(folder, 6)


def test_files_that_are_not_ours_or_cut(folder, tmp_path):
    for name in ("config.json", "vocabulary.model"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    whole = (folder / "model.safetensors").read_bytes()
    path = tmp_path / "model.safetensors"
    path.write_bytes(whole[:-100])
    with pytest.raises(ValueError, match=r"model.safetensors cannot be read \(\d+ byt"):
        rahf.load(tmp_path)
    save_file({"x": np.zeros(3)}, path)
    with pytest.raises(ValueError, match=r"not written by rahf.bin.export"):
        rahf.load(tmp_path)
    save_file({"x": np.zeros(3)}, path, {"library": "rahf", "step": "\u00b2"})
    with pytest.raises(ValueError, match=r"not written by rahf.bin.export"):
        rahf.load(tmp_path)
    arrays = {"t5": np.zeros(3), "t5/x": np.zeros(3)}
    save_file(arrays, path, {"library": "rahf", "step": "7"})
    with pytest.raises(
        ValueError, match=r"model.safetensors: t5 is an array, but t5/x"
    ):
        rahf.load(tmp_path)


def test_a_folder_that_holds_something_is_left_alone(workdir, folder, capsys):
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(SystemExit) as caught:
        binary.main(
            [f"--checkpoint={workdir}", "--format=safetensors", f"--output={folder}"]
        )
    assert "is not empty (README.md, config.json" in str(caught.value)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_a_killed_export_is_no_export_and_is_redone(workdir, tmp_path):
    """Killed while it writes, or while it gives the files their names."""
    (tmp_path / "model.safetensors.part").write_bytes(b"half")
    (tmp_path / ".README.md.part.x1y2").write_bytes(b"half")
    with pytest.raises(ValueError, match="is not a workdir"):
        rahf.load(tmp_path)
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(ValueError, match=r"is not empty \(README.md\)"):
        export_lib.export(workdir, tmp_path, form="safetensors")
    (tmp_path / "config.json.part").write_text("{}")  # no: the export's
    (tmp_path / ".notes").write_text("mine")
    with pytest.raises(ValueError, match=r"is not empty \(\.notes\)"):
        export_lib.export(workdir, tmp_path, form="safetensors")
    (tmp_path / ".notes").unlink()
    export_lib.export(workdir, tmp_path, form="safetensors")
    assert len(list(tmp_path.iterdir())) == 4
    assert restore.restore_for_inference(tmp_path)[2] == 7


def test_an_export_that_fails_leaves_nothing(workdir, paper, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    writers = (exported, "save_file"), (export_lib.export_torch, "_describe")
    sources = ("safetensors", workdir), ("richhf", paper)
    for writer, (form, source) in zip(writers, sources, strict=True):
        with monkeypatch.context() as patch:
            patch.setattr(*writer, full)
            with pytest.raises(
                ValueError, match=r"--output=.*/W cannot .* left on dev"
            ):
                export_lib.export(source, tmp_path / "W", form=form)
        assert not (tmp_path / "W").exists()


def test_a_disk_without_room(workdir, tmp_path, monkeypatch):
    monkeypatch.setattr(
        shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9, 8, 1)
    )
    with pytest.raises(
        ValueError, match=r"--output=.*/W needs \d+ MB, but its disk has"
    ):
        export_lib.export(workdir, tmp_path / "W", form="safetensors")
    assert not (tmp_path / "W").exists()


def test_files_have_the_modes_of_their_neighbours(folder, tmp_path):
    (tmp_path / "neighbour").write_text("")
    mode = (tmp_path / "neighbour").stat().st_mode
    assert {path.stat().st_mode for path in folder.iterdir()} == {mode}


def test_richhf(paper, tmp_path, monkeypatch):
    """What is written is the layout of the parameters; its file has its own test."""
    written = {}
    write = export_lib.export_torch.write_state_dict

    def spy(path, state):
        written.update(state)
        write(path, state)

    monkeypatch.setattr(export_lib.export_torch, "write_state_dict", spy)
    binary.main([f"--checkpoint={paper}", "--format=richhf", f"--output={tmp_path}"])
    _, params, _ = restore.restore_for_inference(paper)
    params = matching.flatten(params)
    shapes = {name: array.shape for name, array in params.items()}
    for name, array in export_layout.from_release(written, shapes).items():
        np.testing.assert_array_equal(array, params[name], err_msg=name)
    assert {p.name for p in tmp_path.iterdir()} == {"richhf.pt", "config.json"} | {
        "vocabulary.model",
        "README.md",
    }
    card = (tmp_path / "README.md").read_text()
    assert 'hidden_act="gelu_pytorch_tanh"' in card  # flax's gelu, by default
    assert "layer_norm_eps=1e-06" in card
    with pytest.raises(ValueError, match="is an export for PyTorch"):
        rahf.load(tmp_path)


def test_richhf_holds_one_design_only(augmented, tmp_path):
    with pytest.raises(ValueError) as caught:
        export_lib.export(augmented, tmp_path / "x", form="richhf")
    assert "config.model.variant='augmented', not 'multihead'" in str(caught.value)
    assert not (tmp_path / "x").exists()


_ALONE = """
import importlib.util, sys
import numpy as np
class Block:
    def find_spec(self, name, *rest):
        if name.split(".")[0] in {"rahf", "flax", "tensorflow", "seqio", "orbax"}:
            raise ImportError(name + " is blocked")
sys.meta_path.insert(0, Block())
folder, prompts, pictures = sys.argv[1], sys.argv[2].split("|"), sys.argv[3:]
spec = importlib.util.spec_from_file_location("predict", folder + "/predict.py")
predict = importlib.util.module_from_spec(spec)
spec.loader.exec_module(predict)
found = predict.Folder(folder)
outputs = found.predict(pictures, prompts)
ends = np.zeros((len(prompts), 30), np.int32)
for row, prompt in enumerate(prompts):
    ids, of = found.tokenize(prompt)
    ends[row, :min(len(of), 29)] = of[:29]
np.savez(folder + "/outputs.npz", word_ends=ends, **outputs)
sys.argv[1:] = [prompts[0], pictures[0]]
predict.__file__ = folder + "/predict.py"
predict.main()
"""


def test_a_free_decoder_is_no_program(workdir):
    config, params, step = restore.restore_for_inference(workdir)
    predictor = Predictor(config, params, step)
    with config.unlocked():
        config.model.decoding = "free"
    with pytest.raises(ValueError, match="config.model.decoding='free'"):
        stablehlo.serialize(predictor, params, batch_size=1)


@pytest.mark.parametrize("variant", ["workdir", "augmented"])
def test_stablehlo_runs_without_rahf(variant, request, pictures, tmp_path):
    workdir, output = request.getfixturevalue(variant), tmp_path / "program"
    binary.main(
        [
            f"--checkpoint={workdir}",
            "--format=stablehlo",
            f"--output={output}",
            "--batch_size=4",
        ]
    )
    done = subprocess.run(
        [sys.executable, "-c", _ALONE, output, "|".join(PROMPTS), *pictures],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    outputs = np.load(output / "outputs.npz")
    # The folder is one that rahf reads, too.
    expected = rahf.load(output).predict(pictures, PROMPTS)
    for row, prediction in enumerate(expected):
        for name, score in prediction.scores.items():
            assert abs(outputs[name][row] - score) < 1e-5, name
        for name, heatmap in prediction.heatmaps.items():
            np.testing.assert_allclose(outputs[name][row], heatmap, atol=1e-5)
        chances = outputs["misaligned_words"][row][outputs["word_ends"][row] > 0]
        wanted = [word.probability for word in prediction.words]
        np.testing.assert_allclose(chances, wanted, atol=1e-5)
    printed = json.loads(done.stdout)
    assert abs(printed["overall"] - expected[0].scores["overall"]) < 1e-3
    assert [word for word, _ in printed["misaligned_words"]] == [
        word.text for word in expected[0].words
    ]


def test_prefixes_are_cut_as_in_training():
    prefix = [8, 9]
    inputs = np.array(
        [[5, 1, 0, 0, 0], [5, 6, 1, 0, 0], [5, 6, 7, 1, 0], [5, 6, 7, 4, 1]]
    )
    found = stablehlo.add_prefix(prefix, inputs)
    assert found.tolist() == [
        [8, 9, 5, 1, 0],
        [8, 9, 5, 6, 1],
        [8, 9, 5, 6, 1],
        [8, 9, 5, 6, 1],
    ]


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--platforms=cpu,abacus", "--platforms=cpu,abacus; expected some of"),
        ("--licence=a b", "--licence='a b'; expected an identifier"),
        ("--step=5", "has no step 5; it was exported from step 7"),
    ],
)
def test_mistakes(folder, tmp_path, flag, message):
    with pytest.raises(SystemExit) as caught:
        binary.main(
            [
                f"--checkpoint={folder}",
                "--format=stablehlo",
                f"--output={tmp_path / 'x'}",
                flag,
            ]
        )
    assert message in str(caught.value)
    assert not (tmp_path / "x").exists()


def test_the_commands_of_the_docs_are_these():
    text = (pathlib.Path(__file__).parents[2] / "docs" / "export.md").read_text()
    for form in export_lib.FORMS:
        assert f"--format={form}" in text
        assert f"--format={form}" in (binary.__doc__ or "")
