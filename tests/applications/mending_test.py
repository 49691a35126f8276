"""Mending: what is repainted, what is kept, and what stays as it was."""

import dataclasses

import numpy as np
import pytest

from rahf.applications.generating import GeneratorError
from rahf.applications.masks import MaskOptions
from rahf.applications.mending import MendOptions, mend

SIZE = (40, 40)
BROKEN = 255


@dataclasses.dataclass
class _Feedback:
    scores: dict
    heatmaps: dict


def _predict(images, prompts):
    """White is broken; the fewer such pixels, the more plausible."""
    assert len(images) == len(prompts)
    maps = [(image[..., 0] == BROKEN).astype(np.float32) for image in images]
    return [
        _Feedback({"plausibility": 1 - m.mean()}, {"implausibility": m}) for m in maps
    ]


class _Painter:
    """Paints what `value` says of a seed over the inside of a mask."""

    size = SIZE

    def __init__(self, value):
        self._value, self.seeds = value, []

    def generate(self, prompts, seeds):
        raise NotImplementedError

    def inpaint(self, images, masks, prompts, seeds):
        self.seeds += seeds
        return [
            np.where((mask > 0)[..., None], self._value(seed), image).astype(np.uint8)
            for image, mask, seed in zip(images, masks, seeds, strict=True)
        ]


def _image(*boxes):
    image = np.full((*SIZE, 3), 90, np.uint8)
    for top, left, side in boxes:
        image[top : top + side, left : left + side] = BROKEN
    return image


def _options(**fields):
    mask = MaskOptions(threshold=0.5, specks=0.0, dilate=0.0)
    return MendOptions(**{"mask": mask, "tries": 3, "rounds": 2} | fields)


def _mend(images, painter, **fields):
    seeds = list(range(len(images)))
    prompts = ["a cat"] * len(images)
    return mend(images, prompts, seeds, _predict, painter, _options(**fields))


def test_what_is_broken_is_repainted_and_nothing_else():
    broken, whole = _image((5, 8, 10)), _image()
    found = _mend([broken, whole], _Painter(lambda seed: 7))
    assert found[0].why == "clean" and found[0].areas == (100 / 1600, 0.0)
    np.testing.assert_array_equal(found[0].pixels[5:15, 8:18], 7)
    untouched = found[0].repainted == 0
    assert untouched.sum() == 1500
    np.testing.assert_array_equal(found[0].pixels[untouched], broken[untouched])
    # An image without a flaw comes back as it was, and nobody was asked to paint it.
    np.testing.assert_array_equal(found[1].pixels, whole)
    assert found[1].scores == (1.0,) and not found[1].repainted.any()


def test_the_best_try_is_kept_if_it_is_better():
    # Of the seeds 0, 1, 2, the second leaves a white pixel row, the others all white.
    painter = _Painter(lambda seed: 7 if seed == 1 else BROKEN)
    [found] = _mend([_image((0, 0, 10))], painter)
    assert painter.seeds == [0, 1, 2]  # clean after a round: there is no second one
    assert found.scores == (1 - 100 / 1600, 1.0)
    [kept] = _mend([_image((0, 0, 10))], _Painter(lambda seed: BROKEN))
    assert kept.why == "no better" and not kept.repainted.any()
    np.testing.assert_array_equal(kept.pixels, _image((0, 0, 10)))


def test_rounds_go_on_from_what_was_kept():
    """A try mends only the pixels that its seed divides; the rest waits for a round."""
    stripes = np.arange(40)[:, None, None] % 2 * BROKEN
    painter = _Painter(lambda seed: stripes if seed % 1000 < 3 else 7)
    [found] = _mend([_image((0, 0, 10))], painter)
    assert painter.seeds == [0, 1, 2, 3, 4, 5]
    assert found.scores == (1 - 100 / 1600, 1 - 50 / 1600, 1.0)
    assert found.why == "clean" and (found.repainted > 0).sum() == 100
    [one] = _mend([_image((0, 0, 10))], painter, rounds=1)
    assert one.why == "rounds" and len(one.scores) == 2


def test_a_margin_is_what_a_try_must_gain():
    one = _mend([_image((0, 0, 10))], _Painter(lambda seed: 7), margin=0.07)
    other = _mend([_image((0, 0, 10))], _Painter(lambda seed: 7), margin=0.06)
    assert (one[0].why, other[0].why) == ("no better", "clean")


def test_seeds_of_images_do_not_meet_and_a_mask_of_everything_is_left_alone():
    painter = _Painter(lambda seed: BROKEN)
    all_broken = np.full((*SIZE, 3), BROKEN, np.uint8)
    found = _mend([all_broken, _image((0, 0, 5)), _image((9, 9, 5))], painter)
    assert found[0].why == "whole" and (found[0].pixels == BROKEN).all()
    assert painter.seeds == [1000, 1001, 1002, 2000, 2001, 2002]


def test_a_generator_that_paints_outside_the_mask_is_an_error():
    class Careless(_Painter):
        def inpaint(self, images, masks, prompts, seeds):
            return [np.full_like(image, 7) for image in images]

    with pytest.raises(GeneratorError, match="changed 1500 pixels outside the mask"):
        _mend([_image((0, 0, 10))], Careless(None))


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="gives no heatmap 'x'; it gives implaus"):
        _mend([_image()], _Painter(None), heatmaps=("x",))
    with pytest.raises(ValueError, match="gives no score 'y'; it gives plausibility"):
        _mend([_image()], _Painter(None), by="y")
    with pytest.raises(ValueError, match="1 images, 0 prompts and 1 seeds"):
        mend([_image()], [], [1], _predict, _Painter(None), _options())
    for fields, message in (
        ({"tries": 0}, "tries=0 and rounds=2"),
        ({"rounds": -1, "tries": -1}, "tries=-1"),
        ({"heatmaps": ()}, "names nothing"),
        ({"margin": float("nan")}, "margin=nan"),
    ):
        with pytest.raises(ValueError, match=message):
            _options(**fields)
