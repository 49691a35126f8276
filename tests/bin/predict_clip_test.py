"""A CLIP's predictions are a folder like those of predict, and are used like it."""

import json

import numpy as np
import pytest
from PIL import Image

from rahf.applications.predictions import read_predictions
from rahf.bin import predict_clip, rank
from tests.support import tiny_clip


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    lines = []
    for number, image in enumerate(tiny_clip.pictures((12, 12), (12, 24), (16, 16))):
        Image.fromarray(image).save(folder / f"{number}.png")
        lines.append(
            {"image": f"{number}.png", "prompt": "a red boat", "id": f"n{number}"}
        )
    text = "\n".join(map(json.dumps, lines))
    (folder / "prompts.jsonl").write_text(text + "\n")
    return folder


def _lines(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_from_images_to_a_ranking(pictures, tmp_path, capsys):
    weights, out = tiny_clip.write(tmp_path / "w"), tmp_path / "out"
    command = [str(pictures), f"--weights={weights}", f"--output={out}"]
    predict_clip.main([*command, "--score=hpsv2", "--map=relevance", "--batch_size=4"])
    assert "3 predicted" in capsys.readouterr().out
    lines = _lines(out / "predictions.jsonl")
    assert [line["id"] for line in lines] == ["n0", "n1", "n2"]
    for line in lines:
        assert line["scores"].keys() == {"hpsv2"}
        assert [word["text"] for word in line["words"]] == ["a", "red", "boat"]
        with Image.open(out / line["heatmaps"]["misalignment"]) as heatmap:
            assert [heatmap.height, heatmap.width] == line["image_size"]
        assert "hpsv2, map relevance, high" in line["checkpoint"]
    before = (out / "predictions.jsonl").read_bytes()
    predict_clip.main([*command, "--score=hpsv2", "--map=relevance"])
    assert "3 done before" in capsys.readouterr().out
    assert (out / "predictions.jsonl").read_bytes() == before
    with pytest.raises(SystemExit, match="choose another --output"):
        predict_clip.main([*command, "--score=pickscore", "--map=relevance"])
    read = read_predictions([out], ["hpsv2"])
    wanted = [line["scores"]["hpsv2"] for line in lines]
    np.testing.assert_allclose(read.scores[:, 0], wanted)
    ranking = tmp_path / "ranking"
    rank.main([str(out), "--sort_by=hpsv2", "--no_sheet", f"--output={ranking}"])
    ranked = [line["id"] for line in _lines(ranking / "ranked.jsonl")]
    order = sorted(range(3), key=lambda i: -wanted[i])
    assert ranked == [f"n{i}" for i in order]


def test_errors_are_one_line(pictures, tmp_path):
    with pytest.raises(SystemExit, match="no such file or folder|does not exist"):
        predict_clip.main(
            [
                str(pictures),
                f"--weights={tmp_path / 'x.pt'}",
                f"--output={tmp_path / 'o'}",
            ]
        )
    with pytest.raises(SystemExit, match="has no sign"):
        predict_clip.main(
            [
                str(pictures),
                "--weights=x",
                "--map=pixels",
                "--reading=negative",
                f"--output={tmp_path / 'o'}",
            ]
        )
