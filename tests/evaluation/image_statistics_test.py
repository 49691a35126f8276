"""Statistics of images against examples by hand."""

import numpy as np
import pytest

from rahf.datasets.scenes import Scenes
from rahf.evaluation import image_statistics
from rahf.evaluation.image_statistics import PromptStatistics


def _grey(*rows):
    return np.repeat(np.array(rows, np.uint8)[..., None], 3, axis=-1)


def test_an_image_by_hand():
    image = _grey([0, 0, 255, 255], [60, 60, 200, 200], [60, 60, 200, 200])
    found = image_statistics.describe_image(image)
    assert found["dark_share"] == 6 / 12  # 60 / 255 = .235
    # Of the first row all four change downwards, two further pixels to the right.
    assert found["edge_density"] == 6 / 12
    # Colours 0, 1, 6 and 7 of 8: shares 1/6, 1/3, 1/3, 1/6.
    assert found["colour_entropy"] == pytest.approx(
        2 * np.log2(6) / 6 + 2 * np.log2(3) / 3
    )
    plain = image_statistics.describe_image(np.full((5, 7, 3), 200, np.uint8))
    assert plain == {"dark_share": 0, "edge_density": 0, "colour_entropy": 0}


def test_an_edge_is_a_tenth_of_the_brightness():
    for step, edges in ((25, 0), (26, 1 / 2)):  # 25 / 255 = .098
        image = np.full((1, 2, 3), 100, np.uint8)
        image[:, 1] += step
        found = image_statistics.describe_image(image)["edge_density"]
        assert found == edges


def test_brightness_weighs_the_colours():
    for colour, dark in (((0, 0, 255), 1), ((255, 0, 0), 0), ((0, 109, 0), 0)):
        image = np.full((2, 2, 3), colour, np.uint8)
        assert image_statistics.describe_image(image)["dark_share"] == dark


def test_diversity_is_a_mean_over_pairs():
    black, white, grey = (_grey([value] * 2) for value in (0, 255, 51))
    assert image_statistics.diversity([black, black]) == 0
    found = image_statistics.diversity([black, white, grey])
    assert found == pytest.approx((1 + 0.2 + 0.8) / 3)
    half = _grey([0, 255])
    assert image_statistics.diversity([black, half]) == pytest.approx(0.5**0.5)
    large = np.full((4, 6, 3), 255, np.uint8)
    assert image_statistics.diversity([black, large]) == pytest.approx(1)
    with pytest.raises(ValueError, match="at least two"):
        image_statistics.diversity([black])


def test_by_prompt():
    black, white = _grey([0, 0]), _grey([255, 255])
    pairs = [("a", black), ("a", white), ("b", black)]
    tokens = lambda images: [image[..., 0] // 200 + [[0, 1]] for image in images]
    found = image_statistics.measure_images(pairs, tokens)
    assert found.prompts == ("a", "b")
    assert found.values["dark_share"].tolist() == [0.5, 1]
    assert found.values["token_entropy"].tolist() == [1, 1]
    assert found.values["diversity"][0] == 1
    assert np.isnan(found.values["diversity"][1])
    with pytest.raises(ValueError, match="prompt 'a' are not together"):
        image_statistics.measure_images([*pairs, ("a", black)])
    with pytest.raises(ValueError, match="at least one"):
        image_statistics.measure_images([])


def test_what_moved_is_paired_by_prompt():
    rng = np.random.default_rng(0)
    dark = rng.random(40)
    names = tuple(map(str, range(40)))
    before = PromptStatistics(names, {"dark_share": dark, "diversity": dark * np.nan})
    moved = {"dark_share": (dark + 0.1)[::-1], "diversity": dark, "token_entropy": dark}
    after = PromptStatistics((*names[::-1],), moved)
    found = image_statistics.compare_statistics(before, after)
    assert set(found) == {"dark_share"}  # no prompt has the others on both sides
    shift = found["dark_share"].difference
    # The prompts differ by far more than .1, but each moved by it.
    assert (shift.low, shift.value, shift.high) == pytest.approx((0.1, 0.1, 0.1))
    assert found["dark_share"].before.value == pytest.approx(dark.mean())
    assert found["dark_share"].prompts == 40
    with pytest.raises(ValueError, match="share no prompt"):
        image_statistics.compare_statistics(
            before, PromptStatistics(("x",), {"dark_share": dark[:1]})
        )


def test_collapse_shows_on_scenes():
    """Copies of a prompt's first sample, darkened: what a hacked reward may look like."""
    scenes = Scenes("dev", 64, difficulty="simple", num_examples=16)
    made = [scenes[i]["image"] for i in range(16)]
    before = [(f"prompt {i // 4}", image) for i, image in enumerate(made)]
    after = [(prompt, made[4 * (i // 4)] // 4) for i, (prompt, _) in enumerate(before)]
    found = image_statistics.compare_statistics(
        *(image_statistics.measure_images(side) for side in (before, after))
    )
    assert found["diversity"].after.value == 0
    assert found["diversity"].difference.high < 0
    assert found["dark_share"].difference.low > 0.5
    assert found["colour_entropy"].difference.high < 0
