"""docs/any_generator.md, from images with their prompts inside to the better ones."""

import doctest
import importlib
import json
import pathlib
import re
import shlex

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from rahf.images import read_heatmap, read_image
from tests.support import tiny

PAGE = pathlib.Path(__file__).parents[1] / "docs" / "any_generator.md"
_COMMAND = re.compile(r"^ {4}python -m (rahf\.bin\.(?:.*\\\n)*.*)", re.MULTILINE)
_COMFY = {
    "3": {"class_type": "KSampler", "inputs": {"positive": ["6", 0], "seed": 17}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a red cube on a table"}},
}
_WEB_UI = "two cats\non a sofa\nNegative prompt: dogs\nSteps: 20, Sampler: Euler a"


@pytest.fixture(name="place")
def _place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny.write_workdir(tmp_path / "W", tiny.config())
    (tmp_path / "made").mkdir()
    rng = np.random.default_rng(0)
    fields = {"0001": {"prompt": json.dumps(_COMFY)}, "0002": {"parameters": _WEB_UI}}
    for name, texts in fields.items():
        info = PngImagePlugin.PngInfo()
        for key, text in texts.items():
            info.add_text(key, text)
        pixels = rng.integers(0, 256, (40, 60, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "made" / f"{name}.png", pnginfo=info)
    return tmp_path


def _run(commands):
    for command in commands:
        module, *arguments = shlex.split(command.replace("\\\n", " "))
        if module.endswith("masks"):  # the model has learned nothing
            arguments.append(f"--threshold={_usual_value():.4f}")
        importlib.import_module(module).main(arguments)


def _usual_value():
    """What most of the pixels of the first heatmap are below."""
    path = pathlib.Path("predictions/heatmaps/0001.implausibility.png")
    return float(np.quantile(read_heatmap(path), 0.9))


def test_the_page_from_top_to_bottom(place):
    parts = re.split(r"^## ", PAGE.read_text("utf-8"), flags=re.MULTILINE)
    by_title = {part.partition("\n")[0]: part for part in parts}
    shared = {
        "repaint": lambda image, mask, prompt: Image.new("RGB", image.size, "red")
    }
    done = []
    for title, text in by_title.items():
        commands = _COMMAND.findall(text)
        if commands and title == "Mask and repaint":
            _run(commands)
            _lift_flags(place / "masks" / "masks.jsonl")
            commands = []
        examples = doctest.DocTestParser().get_doctest(text, shared, title, None, 0)
        runner = doctest.DocTestRunner(verbose=False)
        runner.run(examples, clear_globs=False)
        shared = examples.globs
        assert runner.failures == 0, title
        _run(commands)
        done += commands
    assert len(_COMMAND.findall(PAGE.read_text("utf-8"))) == 6
    rows = (place / "made" / "metadata.jsonl").read_text().splitlines()
    assert json.loads(rows[1])["text"] == "two cats\non a sofa"
    lines = (place / "better" / "manifest.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert {row["id"] for row in rows} == {
        *("0001", "0002", "0001-repainted", "0002-repainted")
    }
    assert sum(row["chosen"] for row in rows) == 2
    old, new = (read_image(f"{folder}/0001.png") for folder in ("made", "repainted"))
    mask = read_image("masks/masks/0001.png")[..., 0]
    np.testing.assert_array_equal(new[mask == 0], old[mask == 0])
    assert (new[mask == 255] == (255, 0, 0)).all()
    assert 0 < (mask == 255).mean() < 0.9


def _lift_flags(path):
    """A model that has learned nothing may mark everything; the example skips that."""
    rows = [json.loads(line) | {"flag": None} for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
