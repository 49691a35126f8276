"""What raters are told: the built-in text, and one's own."""

import json
import pathlib

import numpy as np
import pytest
from PIL import Image

from rahf.annotation import instructions, server
from rahf.datasets.scenes import Scenes
from tests.support import annotation_site

ROOT = pathlib.Path(__file__).resolve().parents[2]


def test_the_built_in_examples_are_scenes():
    found = instructions.read()
    assert {"implausible", "misaligned"} <= set(found.text.replace(")", "(").split("("))
    for example, (difficulty, index) in zip(
        found.examples, (("simple", 15), ("full", 17)), strict=True
    ):
        scenes = Scenes("test", 256, difficulty=difficulty, num_examples=index + 1)
        assert scenes[index]["prompt"] == example.prompt
        with Image.open(found.folder / example.image) as picture:
            np.testing.assert_array_equal(np.asarray(picture), scenes[index]["image"])
        assert example.label.has_marks and len(example.label.scores) == 4


def test_the_pages_and_the_guide_are_packaged():
    setup = (ROOT / "setup.py").read_text()
    assert '"annotation/guide/*"' in setup
    page = pathlib.Path(server.__file__).with_name("page")
    assert {path.suffix for path in page.iterdir()} <= {".html", ".css", ".js"}


def _write(folder, *rows, text="# Mine\n"):
    (folder / "mine.md").write_text(text)
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "mine.jsonl").write_text(lines)
    return str(folder / "mine.md"), str(folder / "mine.jsonl")


def test_ones_own(tmp_path):
    annotation_site.write_images(tmp_path, {"a.png": (30, 20)})
    row = {"image": "a.png", "prompt": "a cat", "label": {"misaligned_words": [1]}}
    text, examples = _write(tmp_path, row | {"note": "no cat"})
    found = instructions.read(text, examples).to_json()
    assert found["markdown"] == "# Mine\n"
    [example] = found["examples"]
    assert (example["width"], example["height"], example["note"]) == (30, 20, "no cat")
    assert [word["text"] for word in example["words"]] == ["a", "cat"]
    assert example["label"]["misaligned_words"] == (1,)
    assert instructions.read(text).examples == (), "scenes would not fit another text"
    assert instructions.read(None, examples).text == instructions.read().text
    assert found["scores"]["overall"] == {"low": "very bad", "high": "excellent"}


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"image": "../a.png", "label": {}}, "line 1: image '../a.png'.*inside"),
        ({"image": "a.png"}, "line 1: .*'label'"),
        ({"image": "a.png", "label": {}, "gold": {}}, "line 1: .*'note'"),
        ({"image": "a.png", "label": {"implausible_points": [[31, 0]]}}, "30 x 20"),
        ({"image": "a.png", "label": {}, "note": 1}, "'note' as text"),
        ({"image": "b.png", "label": {}}, "line 1"),
    ],
)
def test_a_wrong_example_is_named(tmp_path, row, expected):
    annotation_site.write_images(tmp_path, {"a.png": (30, 20)})
    with pytest.raises(ValueError, match=expected):
        instructions.read(*_write(tmp_path, row))


def test_wrong_files_are_named(tmp_path):
    text, examples = _write(tmp_path, text=" \n")
    with pytest.raises(ValueError, match=r"mine\.md: expected 1 to"):
        instructions.read(text)
    with pytest.raises(ValueError, match="expected 1 to 30 examples, got 0"):
        instructions.read(None, examples)
    (tmp_path / "mine.md").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="UTF-8"):
        instructions.read(text)
    with pytest.raises(FileNotFoundError):
        instructions.read("nowhere.md")


def test_only_those_with_a_token_read_them(tmp_path):
    annotation_site.write_images(tmp_path / "pictures", {"a.png": (30, 20)})
    with annotation_site.opened(tmp_path, [{"image": "a.png"}]) as site:
        rater, stranger = site.client("r1"), site.client("", login=False)
        found = rater.get("/api/instructions").json()
        for example in found["examples"]:
            picture = rater.get(example["url"])
            assert picture.headers["content-type"] == "image/png"
            assert stranger.get(example["url"]).status_code == 401
        assert len(found["examples"]) == 2
        for wrong in ("2", "-1", "x", "..%2ftree.png"):
            path = f"/api/instructions/examples/{wrong}"
            assert rater.get(path).status_code == 404
        assert stranger.get("/api/instructions").status_code == 401
