"""rahf.bin.masks, on small files."""

import json
import os
import pathlib

import numpy as np
import pytest
from PIL import Image

from rahf import images
from rahf.applications import masking
from rahf.bin import masks as main
from tests.support import predictions


@pytest.fixture
def made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return predictions.write(tmp_path / "predictions")


def _masks(*arguments, output="out"):
    main.main(["predictions", f"--output={output}", *arguments])
    lines = pathlib.Path(output, "masks.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_a_folder_of_masks(made, capsys):
    rows = _masks("--dilate=0")
    assert [row["flag"] for row in rows] == [None, "empty", None, "empty", None]
    assert rows[0] == {
        "id": "0",
        "image": str(made / "0.png"),
        "prompt": "a red cat",
        "mask": "masks/0.png",
        "size": [40, 60],
        "area": round(100 / 2400, 6),
        "flag": None,
        "boxes": [{"box": [20, 10, 30, 20], "area": round(100 / 2400, 6)}],
    }
    with Image.open("out/masks/0.png") as mask:
        assert (mask.mode, mask.size) == ("L", (60, 40))
        assert np.asarray(mask)[10:20, 20:30].min() == 255
    summary = "5 masks, 2.5% of the area on average; 2 cover nothing"
    assert summary in capsys.readouterr().out


def test_a_union_and_no_empty_ones(made, capsys):
    both = ("--heatmap=implausibility", "--heatmap=misalignment", "--dilate=0")
    rows = _masks(*both, "--skip_empty")
    assert [row["id"] for row in rows] == ["0", "2", "4"]
    assert sorted(os.listdir("out/masks")) == ["0.png", "2.png", "4.png"]
    # The second heatmap is the first upside down: rows 20 to 30, which touch.
    assert rows[0]["boxes"][0]["box"] == [20, 10, 30, 30]
    assert "2 cover nothing (left out)" in capsys.readouterr().out


def test_nearly_everything_is_told(made, capsys):
    row = _masks("--dilate=50")[0]
    assert (row["flag"], row["area"]) == ("full", 1.0)
    assert "3 cover nearly everything" in capsys.readouterr().out


def test_an_interruption_continues(made, monkeypatch):
    real, done = masking.make_mask, []

    def make(*arguments):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(arguments)
        return real(*arguments)

    monkeypatch.setattr(masking, "make_mask", make)
    with pytest.raises(SystemExit):
        _masks()
    assert not os.path.exists("out")
    done[:] = [0]
    with pytest.raises(SystemExit):  # one more
        _masks()
    done[:] = [0, 0]
    monkeypatch.setattr(masking, "make_mask", lambda *a: (done.append(a), real(*a))[1])
    continued = _masks()
    assert len(done) == 2 + 2
    assert continued == _masks(output="whole")
    for number in range(5):
        ours, theirs = (
            pathlib.Path(folder, f"masks/{number}.png").read_bytes()
            for folder in ("out", "whole")
        )
        assert ours == theirs


def test_the_same_command_again_writes_nothing(made, capsys):
    _masks()
    (made / "heatmaps/0.implausibility.png").unlink()
    _masks()
    assert "complete already; nothing was written" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="other predictions or flags"):
        _masks("--threshold=0.2")


def test_heatmaps_that_are_gone(made, capsys):
    for number in (0, 3):
        (made / f"heatmaps/{number}.implausibility.png").unlink()
    with pytest.raises(
        SystemExit, match=r"id '0': .*implausibility.png: no such file "
    ):
        _masks()
    assert sorted(os.listdir(".")) == ["predictions"]
    rows = _masks("--on_error=skip")
    assert [row["id"] for row in rows] == ["1", "2", "4"]
    assert "2 images without heatmap were left out" in capsys.readouterr().out


def test_a_heatmap_that_was_not_predicted(made):
    with pytest.raises(
        SystemExit, match=r"no heatmap 'blur'; it has implausibility, m"
    ):
        _masks("--heatmap=blur", "--on_error=skip")


def test_a_damaged_heatmap(made):
    (made / "heatmaps/1.implausibility.png").write_bytes(b"x")
    with pytest.raises(SystemExit, match=r"heatmaps/1.implausibility.png: expected"):
        _masks()
    assert not os.path.exists("out")


def test_ids_that_are_no_file_names(made):
    for number in (0, 1):
        predictions.edit(made, number, id="../x")
    rows = _masks()
    names = [row["mask"].removeprefix("masks/") for row in rows]
    assert sorted(os.listdir("out/masks")) == sorted(set(names))
    assert len(set(names)) == 5


def test_a_heatmap_of_another_size_gives_a_mask_of_the_images(made):
    images.write_heatmap(
        made / "heatmaps/0.implausibility.png", np.ones((7, 9), np.float32)
    )
    assert _masks()[0]["size"] == [40, 60]


@pytest.mark.parametrize("flag", ["--threshold=0", "--threshold=nan", "--dilate=-1"])
def test_bad_flags(made, flag):
    with pytest.raises(SystemExit):
        _masks(flag)
    assert not os.path.exists("out")
