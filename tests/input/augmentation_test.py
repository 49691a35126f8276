"""Image and maps move together; nothing moves that must not."""

import numpy as np
import pytest

from configs import scenes
from rahf import images
from rahf.input import augmentation
from rahf.input.augmentation import Augmentation


def make_record(prompt="a red boat", map_side=64):
    """A picture whose red channel is its own implausibility map."""
    y, x = np.mgrid[:64, :64].astype(np.float32)
    value = (3 * y + x) / 256
    picture = np.stack([value * 255, 255 - value * 255, x * 2], -1).astype(np.uint8)
    scale = 64 // map_side
    return {
        "uid": "a",
        "prompt": prompt,
        "image": picture,
        "artifact_map": value[::scale, ::scale],
        "misalignment_map": np.zeros((0, 0), np.float32),  # not known
        "overall_score": 0.5,
    }


def apply(record, epoch=0, seed=0, index=0, **options):
    made = Augmentation.from_options({"augment": options})
    return made(record, seed, index, epoch)


def test_off_by_default_and_in_the_configs():
    record = make_record()
    assert apply(record) is record
    assert Augmentation.from_options({"image_size": 64}) == Augmentation.from_options(
        scenes.get_config().input
    )


def test_crop_and_flip_move_image_and_map_together():
    record = make_record()
    shapes, mirrored = set(), 0
    for epoch in range(40):
        changed = apply(record, epoch, crop=0.5, flip=True)
        image, heatmap = changed["image"], changed["artifact_map"]
        assert image.shape[:2] == heatmap.shape
        np.testing.assert_allclose(image[..., 0], heatmap * 255, atol=1)
        assert changed["misalignment_map"].shape == (0, 0)
        assert changed["overall_score"] == 0.5
        mirrored += bool(heatmap[0, 0] > heatmap[0, -1])
        shapes.add(image.shape)
        assert 31 <= min(image.shape[:2]) <= max(image.shape[:2]) <= 64
    assert 8 < mirrored < 32
    assert len(shapes) > 10


def test_a_larger_image_is_resized_before_its_colours_change():
    record = make_record()
    expected = images.resize(apply(record, colour=0.5)["image"], (16, 16))
    changed = Augmentation(colour=0.5, size=16)(record, 0, 0, 0)["image"]
    np.testing.assert_allclose(changed, expected, atol=3)


def test_maps_of_another_size_move_as_far():
    for epoch in range(10):
        changed = apply(make_record(map_side=32), epoch, crop=0.6)
        heatmap = changed["artifact_map"]
        middle = [changed["image"][..., 0].mean() / 255, heatmap.mean()]
        assert abs(middle[0] - middle[1]) < 0.03
        rate = np.divide(changed["image"].shape[:2], heatmap.shape)
        np.testing.assert_allclose(rate, 2, rtol=0.06)


@pytest.mark.parametrize(
    ("prompt", "flips"),
    [
        ("a boat left of a house", False),
        ("Rightmost: a cat", False),
        ("its right-hand side", False),
        ("turning counterclockwise", False),
        ("bright copyright, upright", True),
        ("a cat", True),
    ],
)
def test_sides_in_the_prompt_forbid_a_flip(prompt, flips):
    record = make_record(prompt)
    found = [apply(record, epoch, flip=True)["image"] for epoch in range(12)]
    same = [np.array_equal(image, record["image"]) for image in found]
    assert all(same) != flips
    for image, kept in zip(found, same, strict=True):
        if not kept:
            np.testing.assert_array_equal(image, record["image"][:, ::-1])


def test_colours_change_the_image_alone():
    record = make_record()
    changed = apply(record, colour=0.4)
    assert changed["artifact_map"] is record["artifact_map"]
    assert changed["image"].shape == record["image"].shape
    assert (changed["image"] != record["image"]).mean() > 0.3
    weak = apply(record, colour=0.02)["image"].astype(int) - record["image"]
    assert 0 < np.abs(weak).max() < 20


def test_the_seed_the_record_and_the_epoch_decide():
    options = {"crop": 0.5, "flip": True, "colour": 0.3}

    def image(**key):
        return apply(make_record(), **options, **key)["image"]

    np.testing.assert_array_equal(image(epoch=3), image(epoch=3))
    for key in ({"epoch": 4}, {"epoch": 3, "seed": 1}, {"epoch": 3, "index": 1}):
        assert not np.array_equal(image(**key), image(epoch=3))


def test_a_crop_never_is_empty():
    assert augmentation._span(0.999, 1.0, 3) == slice(2, 3)
    record = make_record() | {"image": np.zeros((1, 1, 3), np.uint8)}
    assert apply(record, crop=0.1)["image"].shape == (1, 1, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop": 0.0}, r"augment.crop=0.0 must be in \(0, 1\]"),
        ({"crop": 1.5}, r"augment.crop=1.5"),
        ({"colour": 1.0}, r"augment.colour=1.0 must be in \[0, 1\)"),
        ({"colour": float("nan")}, r"augment.colour=nan"),
        ({"zoom": 1}, "augment has no option zoom; it has crop, flip, colour"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        Augmentation.from_options({"augment": options})
