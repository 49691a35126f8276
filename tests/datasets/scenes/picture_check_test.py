"""The check of pictures, on pictures drawn for it and on prompts of the grammar."""

import numpy as np
import pytest

from rahf.datasets.scenes import Scenes, drawing, picture_check
from rahf.datasets.scenes.picture_check import (
    NO,
    UNDECIDABLE,
    YES,
    StatedGroup,
    check_picture,
    read_prompt,
)


@pytest.mark.parametrize("difficulty", ["simple", "full"])
@pytest.mark.parametrize("split", ["dev", "test"])
def test_prompts_of_the_grammar_are_read(split, difficulty):
    scenes = Scenes(split, 64, difficulty=difficulty, num_examples=150)
    for scene in map(scenes.describe, range(len(scenes))):
        said = [
            StatedGroup(
                group["kind"],
                group["count"],
                *(
                    group[x] if x in group["words"] else None
                    for x in ("color", "texture")
                ),
            )
            for group in scene["groups"]
        ]
        assert read_prompt(scene["prompt"]) == said, scene["prompt"]


def test_other_prompts():
    assert read_prompt("a photograph of a dog in a green field") == []
    assert read_prompt("balls, Three RED boxes") == [
        StatedGroup("ball", None, None, None),
        StatedGroup("box", 3, "red", None),
    ]
    found = check_picture(np.zeros((64, 64, 3), np.uint8), "a dog")
    assert (found.answer, found.statements) == (UNDECIDABLE, ())
    assert "names no object" in found.reason


def _picture(*disks, size=64, background=(216, 216, 212)):
    """Disks of (colour, x, y, radius), in shares, on an even background."""
    image = np.full((size, size, 3), background, np.uint8)
    y, x = (np.mgrid[:size, :size] + 0.5) / size
    for color, at_x, at_y, radius in disks:
        inside = (x - at_x) ** 2 + (y - at_y) ** 2 < radius**2
        image[inside] = drawing.COLORS[color]
    return image


ONE = _picture(("red", 0.5, 0.5, 0.2))
TWO = _picture(("red", 0.3, 0.5, 0.15), ("red", 0.7, 0.5, 0.15))


@pytest.mark.parametrize(
    ("image", "prompt", "answer", "reason"),
    [
        (ONE, "a red ball", YES, "largest red region is 1"),
        (ONE, "a blue ball", NO, "largest blue region is 0.0%"),
        (ONE, "a red ball and a blue box", NO, "largest blue region is 0.0%"),
        (ONE, "two red balls", NO, "1 red regions where the prompt says 2"),
        (TWO, "two red balls", YES, "largest red region is 7"),
        (TWO, "a red ball", YES, "largest red region"),  # or a broken one
        (ONE, "a ball", UNDECIDABLE, "does not say which colour the ball has"),
        (ONE, "a white ball", UNDECIDABLE, "white cannot be told from a background"),
        (ONE, "a red ball and a red box", UNDECIDABLE, "may be another object"),
        (ONE, "a red ball and a box", UNDECIDABLE, "may be another object"),
        (ONE, "a striped blue ball", UNDECIDABLE, "and the ball has a pattern"),
        (
            _picture(("green", 0.5, 0.5, 0.05)),
            *("a green ball", UNDECIDABLE, "0.8% of the picture, too small to tell"),
        ),
    ],
)
def test_answers(image, prompt, answer, reason):
    found = check_picture(image, prompt)
    assert found.answer == answer
    assert reason in found.reason


def test_counts_have_their_own_statement():
    counts = lambda image, prompt: [
        (each.answer, each.reason)
        for each in check_picture(image, prompt).statements
        if each.statement == "count"
    ]
    assert counts(TWO, "two red balls") == [
        (YES, "2 red regions where the prompt says 2")
    ]
    [(answer, reason)] = counts(TWO, "a red ball")
    assert answer == UNDECIDABLE
    assert "broken" in reason
    uneven = _picture(("red", 0.3, 0.5, 0.2), ("red", 0.75, 0.5, 0.13))
    [(answer, reason)] = counts(uneven, "two red balls")
    assert answer == UNDECIDABLE
    assert "one too small for another" in reason
    [(answer, reason)] = counts(ONE, "a blue ball")
    assert (answer, reason) == (
        UNDECIDABLE,
        "it is not known which regions are the ball",
    )


@pytest.mark.parametrize("color", [c for c in drawing.COLORS if c != "white"])
@pytest.mark.parametrize("size", [64, 200])
def test_each_colour_is_told_from_the_others(color, size):
    image = _picture((color, 0.5, 0.5, 0.2), size=size)
    for other in drawing.COLORS:
        if other != "white":
            expected = YES if other == color else NO
            assert check_picture(image, f"a {other} ball").answer == expected


def test_faded_colours_are_still_theirs():
    for color in ("red", "green", "blue", "purple"):
        faded = _picture((color, 0.5, 0.5, 0.2)).astype(int) * 55 + 196 * 45
        found = check_picture((faded // 100).astype(np.uint8), f"a {color} ball")
        assert found.answer == YES


def test_regions_near_each_other_are_one():
    mask = np.zeros((64, 64), bool)
    mask[10:20, 10:20] = mask[10:20, 22:26] = mask[40, 40] = True
    areas = picture_check.region_areas(mask)
    assert areas == [140 / 4096, 1 / 4096]
    assert picture_check.region_areas(mask & False) == []
