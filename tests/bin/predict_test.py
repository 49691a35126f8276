"""`rahf.bin.predict` and `stream.run`, with a predictor that needs no model."""

import json
import sys
import types

import numpy as np
import pytest
from PIL import Image

from rahf import images, targets
from rahf.bin import predict
from rahf.inference import stream
from rahf.inference.jobs import Job
from rahf.inference.writer import PredictionWriter


class _Predictor:
    """Answers with the mean of the image; keeps the sizes of its batches."""

    step = 5

    def __init__(self):
        self.batches = []

    def predict(self, pictures, prompts, batch_size):
        assert len(pictures) == len(prompts) <= batch_size
        self.batches.append(len(pictures))
        return [
            types.SimpleNamespace(
                scores={"plausibility": picture.mean() / 255},
                words=[],
                heatmaps={"implausibility": np.zeros((4, 4), np.float32)},
                prompt_truncated=len(prompt) > 1000,
            )
            for picture, prompt in zip(pictures, prompts, strict=True)
        ]


@pytest.fixture
def predictor(monkeypatch):
    made = _Predictor()
    module = types.SimpleNamespace(load=lambda workdir: made)
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
    assert "images/s)" in printed
    assert "compilation" not in printed
    # Again: nothing is left to do.
    _call("--prompt=x", folder, f"--output={output}", "--batch_size=2")
    assert predictor.batches == [2, 2, 1]
    assert "0 predicted, 5 done before" in capsys.readouterr().out


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
    assert "images/s, compilation included)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["gone.png", "--prompt=x"], "gone.png: no such file or folder"),
        ([__file__], "an image needs its prompt"),
        ([__file__, "--prompt=x", "--batch_size=0"], "batch_size=0 must be at least 1"),
    ],
)
def test_errors_are_one_line(predictor, tmp_path, args, message):
    with pytest.raises(SystemExit) as caught:
        _call(*args, f"--output={tmp_path / 'out'}")
    assert str(caught.value).startswith("error: ")
    assert message in str(caught.value)


def test_help_explains_every_number(capsys):
    with pytest.raises(SystemExit):
        predict.main(["--help"])
    text = capsys.readouterr().out
    for name in targets.FEEDBACK:
        row = targets.get(name)
        assert f"{name:<17} {row.meaning}; threshold {row.threshold:g}" in text
    for fact in ("[0, 1], higher is better", "minus 1) / 4", "across prompts", "batch"):
        assert fact in text
    assert max(len(line) for line in text.splitlines()) <= 88


def test_read_ahead_keeps_order_and_carries_errors(folder):
    (folder / "2.png").write_bytes(b"")
    jobs = [Job(str(i), str(folder / f"{i}.png"), "", str(i)) for i in range(5)]
    batches = list(stream.read_batches(jobs, 2, workers=3))
    assert [[job.id for job, _ in batch] for batch in batches] == [
        ["0", "1"],
        ["2", "3"],
        ["4"],
    ]
    read = [image for batch in batches for _, image in batch]
    assert isinstance(read.pop(2), images.ImageError)
    assert [int(image[0, 0, 0]) for image in read] == [0, 51, 153, 204]
    assert list(stream.read_batches([], 2)) == []


def test_run_checks_its_options(tmp_path):
    with (
        PredictionWriter(tmp_path) as out,
        pytest.raises(ValueError, match="on_error='ignore'; expected 'fail'"),
    ):
        stream.run(_Predictor(), [], out, on_error="ignore")
