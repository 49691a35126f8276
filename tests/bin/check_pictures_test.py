"""rahf.bin.check_pictures, as a user calls it."""

import json

import numpy as np
import pytest
from PIL import Image

from rahf.bin import check_pictures
from tests.support import predictions

SCORES = (0.9, 0.2, 0.8, 0.4)


def _write(folder, colours):
    """Squares of these colours, all for the same two prompts."""
    prompts = ("a red ball", "a red ball", "a blue box", "a blue box")
    rows = [(p, {"alignment": s}) for p, s in zip(prompts, SCORES, strict=True)]
    predictions.write(folder, rows, size=(64, 64))
    rgb = {"red": (214, 36, 36), "blue": (40, 90, 215), "white": (248, 248, 248)}
    for number, colour in enumerate(colours):
        pixels = np.full((64, 64, 3), 216, np.uint8)
        pixels[20:40, 20:40] = rgb[colour]
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return str(folder)


def test_folders_are_compared_with_the_first(tmp_path, capsys):
    base = _write(tmp_path / "base", ("red", "blue", "blue", "white"))
    tuned = _write(tmp_path / "tuned", ("red", "red", "blue", "white"))
    output = tmp_path / "found.json"
    check_pictures.main([base, tuned, f"--output={output}"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split("  ")[-1] == "alignment: AUC"
    assert len(lines) == 3
    first, second = json.loads(output.read_text())
    assert (first["yes"], first["no"], first["undecidable"]) == (2, 2, 0)
    assert first["shown"] == {"value": 0.5, "low": 0.5, "high": 0.5}
    assert first["gain"] is None
    assert first["auc"]["value"] == 1  # .9 and .8 above .2 and .4
    assert second["shown"]["value"] == 0.75
    # One prompt gained half, the other nothing.
    assert second["gain"] == {"value": 0.25, "low": 0, "high": 0.5}
    assert second["auc"]["value"] == pytest.approx(2 / 3, abs=1e-6)


def test_nothing_decided(tmp_path, capsys):
    folder = predictions.write(tmp_path / "a")
    check_pictures.main([str(folder), "--by=overall"])
    row = capsys.readouterr().out.splitlines()[-1].split()
    assert row[1:] == ["0", "0", "5", "-", "-", "-"]


def test_bad_input(tmp_path):
    folder = predictions.write(tmp_path / "a")
    for arguments, message in (
        ([], "either predictions or --scenes"),
        ([str(folder), "--scenes=dev"], "either predictions or --scenes"),
        (["--scenes=valid"], "unknown split 'valid' of scenes"),
        (["--scenes=dev", "--difficulty=hard"], "unknown difficulty"),
    ):
        with pytest.raises(SystemExit, match=message):
            check_pictures.main(arguments)
    (folder / "1.png").unlink()
    with pytest.raises(SystemExit, match=r"line 2: .*1\.png"):
        check_pictures.main([str(folder)])
