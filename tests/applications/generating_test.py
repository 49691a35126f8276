"""Folders of generated images: what is asked of the generator, and what is written."""

import dataclasses
import json
import os

import numpy as np
import pytest
from PIL import Image

from rahf.applications import generating
from rahf.applications.generating import GenerateRequest, GeneratorError
from rahf.applications.result_folder import NoRoomError
from rahf.inference.jobs import read_jobs
from tests.support import disk

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


_GOOD = np.zeros((4, 6, 3), np.uint8)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([_GOOD], "returned 1 images where 2 were asked for"),
        ([_GOOD] * 3, "returned 3 images where 2 were asked for"),
        (None, "returned NoneType; expected a list of 2 images"),
        (iter([_GOOD] * 2), "returned list_iterator; expected a list"),
        ([np.zeros((6, 4, 3), np.uint8)] * 2, r"returned uint8\[6, 4, 3\] as image 0"),
        ([np.zeros((4, 6, 3))] * 2, r"returned float64\[4, 6, 3\] as image 0"),
        ([np.zeros((4, 6), np.uint8)] * 2, r"returned uint8\[4, 6\] as image 0"),
        ([_GOOD, Image.new("RGB", (6, 4))], "returned PIL.Image.Image as image 1 of 2"),
    ],
)
def test_a_generator_that_returns_something_else_is_an_error(tmp_path, images, message):
    generator = _Flat()
    generator.generate = lambda prompts, seeds: images
    with pytest.raises(GeneratorError, match=message):
        generating.write_images(_request(tmp_path, at_once=2), generator)
    assert not (tmp_path / "out").exists()


def test_the_images_before_a_wrong_one_are_kept(tmp_path):
    first = _Flat()
    good = first.generate
    first.generate = lambda prompts, seeds: [*good(prompts[:2], seeds[:2]), None]
    with pytest.raises(GeneratorError, match="NoneType as image 2 of 3"):
        generating.write_images(_request(tmp_path, at_once=3), first)
    second = _Flat()
    generating.write_images(_request(tmp_path, at_once=3), second)
    assert second.asked[0] == (PROMPTS[1], 0) and len(second.asked) == 4


class _Noisy:
    """Images of noise from the seed, which no PNG makes small."""

    size = (200, 200)

    def generate(self, prompts, seeds):
        draw = lambda seed: np.random.default_rng(seed).integers(0, 256, (200, 200, 3))
        return [draw(seed).astype(np.uint8) for seed in seeds]

    def inpaint(self, images, masks, prompts, seeds):
        raise NotImplementedError


def test_a_disk_that_fills_loses_nothing(tmp_path):
    # The first image of this request compresses to nothing, the second does not.
    request = GenerateRequest(
        prompts=["x"], output=str(tmp_path / "out"), samples=2, at_once=2
    )
    generator = _Noisy()
    noise = generator.generate
    generator.generate = lambda prompts, seeds: [
        np.zeros((200, 200, 3), np.uint8),
        *noise(prompts[1:], seeds[1:]),
    ]
    message = r"kept in \.out\.partial: make room, and the same command goes on"
    with disk.room_for(50_000), pytest.raises(NoRoomError, match=message):
        generating.write_images(request, generator)
    kept = tmp_path / ".out.partial"
    assert sorted(name for name in os.listdir(kept) if name.endswith(".png")) == [
        "000000-0.png"
    ]
    generating.write_images(request, _Noisy())
    assert not kept.exists()
    found = [np.asarray(Image.open(tmp_path / "out" / f"000000-{i}.png")) for i in "01"]
    assert (found[0] == 0).all()
    np.testing.assert_array_equal(found[1], _Noisy().generate(["x"], [1])[0])
