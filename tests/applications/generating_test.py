"""Folders of generated images: what is asked of the generator, and what is written."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from rahf.applications import generating
from rahf.applications.generating import GenerateRequest, GeneratorError
from rahf.inference.jobs import read_jobs

PROMPTS = ("a red cube", "two <b>cats</b>", "a red cube")


class _Flat:
    """Images of one colour, which the seed and the length of the prompt decide."""

    size = (4, 6)

    def __init__(self, fails_after=None):
        self.asked, self._left = [], fails_after

    def generate(self, prompts, seeds):
        if self._left is not None:
            self._left -= 1
            if self._left < 0:
                raise KeyboardInterrupt
        self.asked += list(zip(prompts, seeds, strict=True))
        return [
            np.full((4, 6, 3), 10 * len(prompt) + seed, np.uint8)
            for prompt, seed in zip(prompts, seeds, strict=True)
        ]

    def inpaint(self, images, masks, prompts, seeds):
        raise NotImplementedError


def _request(tmp_path, **fields):
    return GenerateRequest(
        prompts=PROMPTS, output=str(tmp_path / "out"), samples=2, **fields
    )


def test_every_prompt_and_seed_has_its_image(tmp_path):
    generator = _Flat()
    said = generating.write_images(_request(tmp_path, seed=3, at_once=4), generator)
    assert said == f"6 images of 3 prompts in {tmp_path / 'out'}"
    out = tmp_path / "out"
    lines = (out / "metadata.jsonl").read_text("utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    assert rows[3] == {"file_name": "000001-4.png", "text": PROMPTS[1], "seed": 4}
    for index, row in enumerate(rows):
        assert row["text"] == PROMPTS[index // 2] and row["seed"] == 3 + index % 2
        pixels = np.asarray(Image.open(out / row["file_name"]))
        assert (pixels == 10 * len(row["text"]) + row["seed"]).all()
        assert pixels.shape == (4, 6, 3)
    # It is what predict takes.
    jobs = read_jobs([str(out)])
    assert [job.prompt for job in jobs] == [p for p in PROMPTS for _ in range(2)]


def test_an_interrupted_command_goes_on(tmp_path):
    request = _request(tmp_path, at_once=2)
    with pytest.raises(KeyboardInterrupt):
        generating.write_images(request, _Flat(fails_after=2))
    assert not (tmp_path / "out").exists()
    second = _Flat()
    generating.write_images(request, second)
    assert second.asked == [(PROMPTS[2], 0), (PROMPTS[2], 1)]
    assert len(list((tmp_path / "out").glob("*.png"))) == 6
    third = _Flat()
    assert "complete already" in generating.write_images(request, third)
    assert third.asked == []
    changed = {"made_by": {"guidance": 3.0}, "samples": 1, "seed": 1}
    changed["prompts"] = PROMPTS[:2]
    for name, value in changed.items():
        other = dataclasses.replace(request, **{name: value})
        with pytest.raises(ValueError, match="holds results of other"):
            generating.write_images(other, third)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([np.zeros((4, 6, 3), np.uint8)], "returned 1 images where 2 were asked for"),
        ([np.zeros((6, 4, 3), np.uint8)] * 2, r"returned uint8\[6, 4, 3\] as image 0"),
        ([np.zeros((4, 6, 3))] * 2, r"returned float64\[4, 6, 3\] as image 0"),
    ],
)
def test_a_generator_that_returns_something_else_is_an_error(tmp_path, images, message):
    generator = _Flat()
    generator.generate = lambda prompts, seeds: images
    with pytest.raises(GeneratorError, match=message):
        generating.write_images(_request(tmp_path, at_once=2), generator)
    assert not (tmp_path / "out").exists()
