"""`rahf.bin.predict`, with a predictor that needs no model."""

import io
import json
import os
import pathlib
import sys
import types

import ml_collections
import numpy as np
import pytest
from PIL import Image

from rahf import images, targets
from rahf.bin import predict
from rahf.inference.writer import PredictionWriter
from tests.support import disk


class _Predictor:
    """Answers with the mean of the image; keeps the sizes of its batches."""

    step = 5
    config = ml_collections.ConfigDict(
        {"input": {"text_length": 36}, "task": {"name": "rated_images_multihead"}}
    )

    def __init__(self):
        self.batches, self.loaded, self.params = [], [], {}
        self.before_batch = lambda number: None

    def predict(self, pictures, prompts, batch_size):
        assert len(pictures) == len(prompts) <= batch_size
        self.before_batch(len(self.batches))
        self.batches.append(len(pictures))
        return [
            types.SimpleNamespace(
                scores={"plausibility": picture.mean() / 255},
                words=[],
                heatmaps={"implausibility": np.zeros((4, 4), np.float32)},
                prompt_truncated=len(prompt) > 1000,
                distance=None,
                intervals={},
            )
            for picture, prompt in zip(pictures, prompts, strict=True)
        ]


@pytest.fixture
def predictor(monkeypatch):
    made = _Predictor()
    load = lambda *which: made.loaded.append(which) or made
    module = types.SimpleNamespace(load=load)
    monkeypatch.setitem(sys.modules, "rahf.inference.predictor", module)
    return made


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for value in range(5):
        image = Image.new("RGB", (20 + value, 10), (51 * value,) * 3)
        image.save(folder / f"{value}.png")
    return folder


def _rows(output):
    lines = (output / "predictions.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


def _call(*args):
    predict.main(["--checkpoint=W", *map(str, args)])


def test_a_folder(predictor, folder, tmp_path, capsys):
    output = tmp_path / "out"
    _call("--prompt=x", folder, f"--output={output}", "--batch_size=2")
    rows = _rows(output)
    assert predictor.batches == [2, 2, 1]
    assert [row["id"] for row in rows] == list("01234")
    assert [row["scores"]["plausibility"] for row in rows] == [0, 0.2, 0.4, 0.6, 0.8]
    assert [row["image_size"] for row in rows] == [[10, 20 + i] for i in range(5)]
    assert rows[0]["checkpoint"].endswith("/W, step 5")
    assert len(list((output / "heatmaps").iterdir())) == 5
    printed = capsys.readouterr().out
    assert f"{output / 'predictions.jsonl'}: 5 predicted (" in printed
    assert "\n  4: plausibility 0.80" in printed
    assert "images/s)" in printed
    assert "compilation" not in printed
    # Again: nothing is left to do.
    _call("--prompt=x", folder, f"--output={output}", "--batch_size=2")
    assert predictor.batches == [2, 2, 1]
    assert "0 predicted, 5 done before" in capsys.readouterr().out


def test_which_pictures(predictor, folder, tmp_path):
    asked = {
        "none": ("--heatmaps=none", "--overlays=off", "--limit=2", "--writers=1"),
        "native": ("--heatmaps=native", "--limit=2", "--batch_size=1", "--writers=3"),
        "sheets": ("--heatmaps=none", "--overlays=off", "--limit=1", "--sheets=on"),
    }
    for name, options in asked.items():
        _call("--prompt=x", folder, f"--output={tmp_path / name}", *options)
    assert [row["id"] for row in _rows(tmp_path / "none")] == ["0", "1"]
    assert all(
        row["heatmaps"] == row["overlays"] == {} for row in _rows(tmp_path / "none")
    )
    names = {path.name for path in (tmp_path / "none").iterdir()}
    assert not names & {"heatmaps", "overlays"}
    row = _rows(tmp_path / "native")[0]
    small = images.read_heatmap(tmp_path / "native" / row["heatmaps"]["implausibility"])
    assert small.shape == (4, 4)
    with Image.open(tmp_path / "native" / row["overlays"]["implausibility"]) as found:
        assert found.format == "JPEG"
    assert "sheet" not in row
    with Image.open(
        tmp_path / "sheets" / _rows(tmp_path / "sheets")[0]["sheet"]
    ) as all_:
        assert all_.format == "JPEG"


def test_skipping_and_failing(predictor, folder, tmp_path, capsys):
    (folder / "3.png").write_bytes(b"broken")
    output = tmp_path / "out"
    with pytest.raises(SystemExit, match=r"error: .*3\.png: expected one of PNG"):
        _call("--prompt=x", folder, f"--output={output}", "--batch_size=2")
    assert [row["id"] for row in _rows(output)] == ["0", "1"]
    _call("--prompt=x", folder, f"--output={output}", "--on_error=skip")
    rows = _rows(output)
    assert sorted(row["id"] for row in rows) == list("01234")
    (failed,) = (row for row in rows if "error" in row)
    assert failed["id"] == "3"
    assert "3.png: expected one of PNG" in failed["error"]
    assert "1 could not be read" in capsys.readouterr().out
    # Mended, it is tried again, and its old line is gone.
    Image.new("RGB", (9, 9)).save(folder / "3.png")
    _call("--prompt=x", folder, f"--output={output}")
    rows = _rows(output)
    assert sorted(row["id"] for row in rows) == list("01234")
    assert not any("error" in row for row in rows)


def test_no_image_readable_is_a_failure(predictor, tmp_path):
    (tmp_path / "a.png").write_bytes(b"broken")
    with pytest.raises(SystemExit) as caught:
        _call(
            "--prompt=x",
            tmp_path / "a.png",
            f"--output={tmp_path / 'out'}",
            "--on_error=skip",
        )
    assert caught.value.code == 1


def test_a_jsonl_with_a_long_prompt(predictor, folder, tmp_path, capsys):
    prompts = ["", "word " * 10_000]
    text = "\n".join(json.dumps({"image": "1.png", "prompt": p}) for p in prompts)
    (folder / "list.jsonl").write_text(text)
    _call(folder / "list.jsonl", f"--output={tmp_path / 'out'}")
    rows = _rows(tmp_path / "out")
    assert [row["prompt"] for row in rows] == prompts
    assert [row["prompt_truncated"] for row in rows] == [False, True]
    assert [row["id"] for row in rows] == ["1", "1-2"]
    # All in one batch, so that the rate cannot leave the compilation out.
    assert "images/s, including compilation)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["gone.png", "--prompt=x"], "gone.png: no such file or folder"),
        # Not one that --on_error=skip is for: it may have been meant as anything.
        (["gone.png", "--prompt=x", "--on_error=skip"], "gone.png: no such file or"),
        (["1.png"], "the image has no prompt"),
        (["1.png", "--prompt=a\udcff"], "--prompt is not valid Unicode"),
        (["list.parquet", "--prompt=x"], "got a shard; python -m rahf.bin.score"),
        (["{0..9}.tar", "--prompt=x"], "got a shard; python -m rahf.bin.score"),
        (
            ["1.png", "--prompt=x", "--output=1.png"],
            "--output=1.png cannot be written to: File exists",
        ),
        (
            ["1.png", "--prompt=x", "--output=1.png/x"],
            "cannot be written to: Not a directory",
        ),
        (["1.png", "--prompt=x", "--output=/proc/x"], "--output=/proc/x cannot be wr"),
    ],
)
def test_errors_are_one_line_before_the_model_is_loaded(
    predictor, folder, monkeypatch, args, message
):
    (folder / "list.parquet").write_bytes(b"PAR1")
    monkeypatch.chdir(folder)
    with pytest.raises(SystemExit) as caught:
        _call("--output=out", *args)
    assert str(caught.value).startswith("error: ")
    assert "\n" not in str(caught.value)
    assert message in str(caught.value)
    assert predictor.loaded == []


def test_a_missing_image_is_found_before_the_model_is_loaded(
    predictor, folder, tmp_path, capsys
):
    lines = [{"image": f"{i}.png", "prompt": "x"} for i in (0, 1, 7, 2, 8)]
    (folder / "list.jsonl").write_text("\n".join(map(json.dumps, lines)))
    output = f"--output={tmp_path / 'out'}"
    with pytest.raises(
        SystemExit,
        match=r"list\.jsonl, line 3, id '7': .*7\.png: no such file \(2 of 5 images",
    ):
        _call(folder / "list.jsonl", output)
    assert predictor.loaded == []
    _call(folder / "list.jsonl", output, "--on_error=skip")
    assert "3 predicted" in (printed := capsys.readouterr().out)
    assert "2 could not be read" in printed
    # What is done is not asked for again, though its image is gone.
    (folder / "1.png").unlink()
    with pytest.raises(SystemExit, match=r"2 of 2 images are missing"):
        _call(folder / "list.jsonl", output)


def test_the_same_state_gives_the_same_exit_code(predictor, folder, tmp_path):
    (folder / "3.png").write_bytes(b"broken")
    args = ("--prompt=x", f"--output={tmp_path / 'out'}", "--on_error=skip")
    for _ in range(3):
        _call(folder, *args)  # 0, or SystemExit is raised
    for _ in range(3):
        with pytest.raises(SystemExit) as caught:
            _call(folder / "3.png", *args[::2], f"--output={tmp_path / 'other'}")
        assert caught.value.code == 1


def test_ctrl_c(predictor, folder, tmp_path, capsys):
    def interrupt(number):
        if number == 2:
            raise KeyboardInterrupt

    predictor.before_batch = interrupt
    args = ("--prompt=x", folder, f"--output={tmp_path / 'out'}", "--batch_size=2")
    with pytest.raises(SystemExit) as caught:
        _call(*args)
    assert caught.value.code == 130
    printed = capsys.readouterr().err
    assert "interrupted; 4 written; run the same command to continue" in printed
    assert "Traceback" not in printed
    assert [row["id"] for row in _rows(tmp_path / "out")] == list("0123")
    predictor.before_batch = lambda number: None
    _call(*args)
    assert "1 predicted" in (printed := capsys.readouterr().out)
    assert "4 done before" in printed


def test_the_step_is_handed_on(predictor, folder, tmp_path):
    args = ("--prompt=x", folder / "1.png", f"--output={tmp_path / 'out'}")
    _call(*args)
    _call(*args, "--step=best")
    _call(*args, "--step=5")
    assert predictor.loaded == [("W", None), ("W", "best"), ("W", "5")]
    for wrong in ("--step=bset", "--batch_size=0"):
        with pytest.raises(SystemExit) as caught:
            _call(*args, wrong)
        assert caught.value.code == 2


@pytest.mark.parametrize("room", [0, 5000, 9000])
def test_a_full_disk_loses_nothing(predictor, folder, tmp_path, room):
    """No line fits; one does; two do. A line has about 4,000 bytes."""
    output = tmp_path / "out"
    flags = (f"--prompt={'x' * 3500}", folder, f"--output={output}", "--batch_size=1")
    message = r"error: --output=.* cannot be written to.*File too large"
    with disk.room_for(room), pytest.raises(SystemExit, match=message):
        _call(*flags)
    if room:
        before = (output / "predictions.jsonl").read_bytes()
        assert before.count(b"\n") == room // 4500
        assert before.endswith(b"\n")
        assert not list(output.glob("*/.*"))
    _call(*flags)
    assert [row["id"] for row in _rows(output)] == list("01234")
    for row in _rows(output):
        assert (output / row["heatmaps"]["implausibility"]).is_file()


def test_a_second_process_is_refused_by_name(predictor, folder, tmp_path):
    output = tmp_path / "out"
    message = r"in use by another process \(predicting, process \d+"
    with (
        PredictionWriter(output, checkpoint=f"{pathlib.Path.cwd()}/W, step 5"),
        pytest.raises(SystemExit, match=message),
    ):
        _call("--prompt=x", folder, f"--output={output}")
    assert predictor.loaded == []
    _call("--prompt=x", folder, f"--output={output}")
    assert len(_rows(output)) == 5


def test_what_was_cut_and_what_was_not_read_is_said(
    predictor, folder, tmp_path, capsys
):
    """Once, at the end, with those that were done before."""
    rows = [{"image": f"{i}.png", "prompt": "x " * 1000 * (i % 2)} for i in range(5)]
    (folder / "list.json").write_text(json.dumps(rows[:3]))
    output = f"--output={tmp_path / 'out'}"
    _call(folder / "list.json", output)
    said = "prompt{} longer than the model reads (config.input.text_length=36)"
    assert said.format(" is") in capsys.readouterr().out
    (folder / "list.json").write_text(json.dumps(rows))
    _call(folder / "list.json", output)
    assert f"\n2 {said.format('s are')}" in capsys.readouterr().out
    (folder / "prompts.csv").write_text("image,prompt\n0.png,a cat\n")
    _call(folder, "--prompt=x", f"--output={tmp_path / 'other'}")
    printed = capsys.readouterr().out
    assert "--prompt is used for all images; prompts.csv is ignored" in printed
    assert "longer" not in printed


def test_names_that_are_not_utf8(predictor, folder, tmp_path, capsys):
    name = os.fsdecode(b"caf\xe9.png")
    (folder / "1.png").rename(folder / name)
    output = tmp_path / os.fsdecode(b"out\xe9")
    for _ in range(2):
        _call("--prompt=x", folder / name, f"--output={output}")
        assert "out\\udce9" in capsys.readouterr().out
    assert [row["image"] for row in _rows(output)] == [str(folder / name)]


def test_help_explains_every_number(capsys):
    with pytest.raises(SystemExit):
        predict.main(["--help"])
    text = capsys.readouterr().out
    for name in targets.FEEDBACK:
        row = targets.get(name)
        assert f"{name:<17} {row.description}; threshold {row.threshold:g}" in text
    for fact in ("[0, 1], higher is better", "minus 1) / 4", "across prompts", "batch"):
        assert fact in text
    assert max(len(line) for line in text.splitlines()) <= 88


def test_other_pictures_than_before_are_refused(predictor, folder, tmp_path):
    flags = ("--prompt=x", folder, f"--output={tmp_path / 'out'}")
    _call(*flags, "--heatmaps=native", "--overlays=off")
    _call(*flags, "--heatmaps=native", "--overlays=off")  # nothing to do
    with pytest.raises(SystemExit, match="with --heatmaps=native --overlays=off --sh"):
        _call(*flags)


def test_columns_subfolders_and_standard_input(
    predictor, folder, tmp_path, capsys, monkeypatch
):
    (folder / "sub").mkdir()
    (folder / "0.png").rename(folder / "sub" / "0.png")
    output = tmp_path / "out"
    _call("--prompt=x", folder, f"--output={output}", "--recursive")
    assert [row["id"] for row in _rows(output)] == ["1", "2", "3", "4", "sub/0"]
    rows = b'{"url": "sub/0.png", "prompt": "x"}\n'
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(rows)))
    monkeypatch.chdir(folder)
    _call("-", f"--output={tmp_path / 'stdin'}", "--image_column=url")
    [row] = _rows(tmp_path / "stdin")
    assert row["image"] == str(folder / "sub" / "0.png")


def test_a_model_of_drawings_says_so(predictor, folder, tmp_path, capsys):
    _call("--prompt=x", folder, f"--output={tmp_path / 'one'}")
    assert "note:" not in capsys.readouterr().out
    predictor.config = predictor.config.copy_and_resolve_references()
    predictor.config.task.name = "scenes_seven"
    _call("--prompt=x", folder, f"--output={tmp_path / 'two'}")
    [note] = [x for x in capsys.readouterr().out.splitlines() if x.startswith("note:")]
    assert "learned feedback from drawings alone" in note
