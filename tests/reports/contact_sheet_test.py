"""rahf.bin.rank: the lists, and what the page is given."""

import json
import os
import pathlib
import re

import pytest
from PIL import Image

from rahf.bin import rank as main
from rahf.bin import select
from rahf.datasets.files.csv_table import StrictReader
from rahf.inference.jobs import read_jobs
from tests.support import predictions


@pytest.fixture
def made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return predictions.write(tmp_path / "predictions")


def _rank(*arguments, source="predictions", by="plausibility", output="out"):
    main.main([source, f"--sort_by={by}", f"--output={output}", *arguments])
    return pathlib.Path(output)


def _ids(out):
    lines = (out / "ranked.jsonl").read_text().splitlines()
    return [json.loads(line)["id"] for line in lines]


def _data(out):
    page = (out / "index.html").read_text()
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page)
    assert found
    return json.loads(found[1])


@pytest.mark.parametrize(
    ("flags", "by", "ids"),
    [
        ((), "plausibility", ["0", "4", "3", "1", "2"]),
        (("--worst",), "plausibility", ["2", "1", "3", "4", "0"]),
        (("--top=2",), "plausibility", ["0", "4"]),
        (("--top=9",), "alignment", ["2", "3", "1", "4", "0"]),  # 2 and 3 are equal
        (("--worst", "--top=2"), "alignment", ["0", "4"]),
        ((), "plausibility+3*alignment", ["3", "2", "1", "4", "0"]),
    ],
)
def test_order(made, flags, by, ids):
    assert _ids(_rank(*flags, "--no_sheet", by=by)) == ids


def test_the_table_is_read_by_our_own_readers(made):
    out = _rank()
    rows = list(StrictReader(out / "ranked.csv"))
    assert rows[0] == {
        "rank": "1",
        "value": "0.9",
        "id": "0",
        "image": str(made / "0.png"),
        "prompt": "a red cat",
        "plausibility": "0.9",
        "alignment": "0.2",
        "overall": "0.5",
        "misaligned words": "red",
    }
    jobs = read_jobs([str(out / "ranked.csv")])
    assert [(job.id, job.prompt) for job in jobs][2] == ("3", 'a "blue", dog')


def test_what_the_page_shows(made):
    out = _rank("--size=20")
    data = _data(out)
    assert data["names"] == ["plausibility", "alignment", "overall"]
    first = data["rows"][0]
    assert first["prompt"] == ["a ", "red", " cat"]
    assert (first["file"], first["size"]) == ("pictures/0.jpg", [20, 13])
    assert (first["chosen"], first["value"]) == (None, 0.9)
    for row in data["rows"]:
        with Image.open(out / row["file"]) as picture:
            assert (list(picture.size), picture.format) == (row["size"], "JPEG")


def test_the_page_needs_nothing_but_the_folder(made):
    page = (_rank() / "index.html").read_text()
    assert not re.search(r"https?://|@import|url\(", page)
    assert not re.findall(r'<(?:script|link|img)[^>]*(?:src|href)="(?!data:)', page)


def test_text_cannot_become_markup(made):
    evil = "</script><script>alert(1)</script><!--"
    predictions.edit(made, 0, prompt=evil, id="<b>&$title", words=[])
    out = _rank("--title=<i>$data")
    page = (out / "index.html").read_text()
    assert "<script>alert" not in page
    assert "<b>" not in page.replace("<b>&", "")
    assert "&lt;i&gt;$data" in page
    assert _data(out)["rows"][0]["prompt"] == [evil]


def test_a_manifests_chosen_ones(made):
    select.main(["predictions", "--by=overall", "--keep=1", "--output=chosen"])
    out = _rank("--chosen", source="chosen/manifest.jsonl")
    assert _ids(out) == ["4", "1", "2"]
    assert "number 1 of 2 of its prompt" in _data(out)["rows"][1]["reason"]
    everything = _data(_rank(source="chosen/manifest.jsonl", output="all"))
    assert sum(row["chosen"] for row in everything["rows"]) == 3
    with pytest.raises(SystemExit, match='no predicted images with "chosen": true'):
        _rank("--chosen", output="none")


def test_copies_are_listed_once(made, capsys):
    first = json.loads((made / "predictions.jsonl").read_text().splitlines()[0])
    predictions.edit(made, 1, image_sha256=first["image_sha256"])
    assert _ids(_rank("--no_sheet")) == ["0", "4", "3", "2"]
    assert "1 copies" in capsys.readouterr().out


def test_images_that_are_gone(made, capsys):
    (made / "0.png").unlink()
    with pytest.raises(SystemExit, match=r"0.png: no such file; nothing was written"):
        _rank()
    assert os.listdir(".") == ["predictions"]
    assert _ids(_rank("--no_sheet", output="lists"))[0] == "0"
    assert _ids(_rank("--on_error=skip", "--top=2")) == ["4", "3"]
    assert "1 images gone or changed" in capsys.readouterr().out


def test_the_same_command_again_writes_nothing(made, capsys):
    _rank()
    _rank()
    assert "complete already; nothing was written" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="other predictions or flags"):
        _rank("--top=1")


def test_unequal_scores(made):
    predictions.edit(made, 0, scores={"plausibility": 0.9, "own": 0.1})
    out = _rank()
    assert _data(out)["names"] == ["plausibility", "alignment", "overall", "own"]
    first, second, *_ = StrictReader(out / "ranked.csv")
    assert (first["own"], first["overall"]) == ("0.1", "")
    assert (second["own"], second["overall"]) == ("", "0.6")
