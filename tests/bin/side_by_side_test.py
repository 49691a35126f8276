"""rahf.bin.side_by_side, as a user calls it."""

import dataclasses
import json
import re

import pytest

from rahf.bin import side_by_side
from rahf.evaluation.side_by_side import MARGINS
from tests.support import predictions


def _write(folder, gain, scores=("plausibility", "alignment")):
    rows = [
        (f"prompt {number // 2}", dict.fromkeys(scores, round(0.3 + gain * number, 3)))
        for number in range(8)
    ]
    return str(predictions.write(folder, rows, size=(8, 8)))


def test_a_table_and_json(tmp_path, capsys):
    base = _write(tmp_path / "base", 0)
    sides = [_write(tmp_path / f"step{gain}", gain / 100) for gain in (1, 9)]
    output = tmp_path / "numbers" / "found.json"
    side_by_side.main([base, *sides, "--by=plausibility", f"--output={output}"])
    printed = capsys.readouterr().out
    assert "step9: 8 pairs of 4 prompts" in printed
    assert "slightly from a difference of 0.12 on, significantly from 0.29" in printed
    # Gains of 0, .09, .18, .27 (slight), .36 and more (significant).
    shares = ["50.0 (0.0 to 100.0)", *["25.0 (0.0 to 75.0)"] * 2]
    shares += [*["0.0 (0.0 to 0.0)"] * 2, "75.0 (25.0 to 100.0)"]
    rows = [re.split(r" {2,}", line) for line in printed.splitlines()]
    assert rows[-7][0] == "plausibility"
    assert rows[-7][1:] == shares
    assert [row[0] for row in rows[-5:]] == [
        *("seen by no score", "dark_share", "edge_density", "colour_entropy"),
        "diversity",
    ]
    found = json.loads(output.read_text())
    assert found["judge"]["checkpoint_digest"] == "files:1"
    assert found["margins"] == dataclasses.asdict(MARGINS)
    assert [side["after"] for side in found["sides"]] == sides
    first, last = (side["scores"]["plausibility"] for side in found["sides"])
    assert first["same"] == {"value": 1, "low": 1, "high": 1}
    assert last["significantly_better"]["value"] == 0.5
    assert last["slightly_better"]["value"] == last["same"]["value"] == 0.25
    assert last["better_minus_worse"]["value"] == 0.75
    assert last["difference"]["value"] == pytest.approx(0.315)
    moved = found["sides"][1]["statistics"]["dark_share"]
    assert moved["difference"] == {"value": 0, "low": 0, "high": 0}
    assert moved["prompts"] == 4


def test_all_shared_scores_unless_named(tmp_path, capsys):
    base = _write(tmp_path / "base", 0, ("alignment", "overall", "plausibility"))
    after = _write(tmp_path / "after", 0.1)
    output = tmp_path / "found.json"
    side_by_side.main([base, after, "--margins=0.5,0.7", f"--output={output}"])
    found = json.loads(output.read_text())["sides"][0]["scores"]
    assert list(found) == ["alignment", "plausibility"]
    assert found["alignment"]["slightly_better"]["value"] == 0.25
    assert "from a difference of 0.5 on" in capsys.readouterr().out


def test_images_that_are_gone(tmp_path, capsys):
    base, after = (_write(tmp_path / name, 0) for name in ("base", "after"))
    (tmp_path / "after" / "3.png").unlink()
    with pytest.raises(SystemExit, match=r"line 4: .*3\.png.*--no_statistics compares"):
        side_by_side.main([base, after])
    side_by_side.main([base, after, "--no_statistics"])
    assert "dark_share" not in capsys.readouterr().out


def test_bad_input(tmp_path):
    base = _write(tmp_path / "base", 0)
    other = _write(tmp_path / "other", 0, ("overall",))
    for arguments, message in (
        ([base, base, "--margins=1"], "--margins=1: expected two numbers"),
        ([base, other], "share no score"),
        ([base, other, "--by=overall"], "no score 'overall'"),
        ([base, str(tmp_path / "gone")], "no such file"),
        ([base, base, "--output=gs://bucket/x.json"], "URLs are not supported"),
    ):
        with pytest.raises(SystemExit, match=message):
            side_by_side.main(arguments)
