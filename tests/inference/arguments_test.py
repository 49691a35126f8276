"""What `Predictor.predict` takes and how it names what it does not take; no model."""

import io
import re

import numpy as np
import pytest
from PIL import Image

from rahf.images import ImageError
from rahf.inference.arguments import (
    check_batch_size,
    list_images,
    list_prompts,
    read_picture,
)

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)


def test_a_list_or_a_single_image(tmp_path):
    path = tmp_path / "a.png"
    for one in ("a.png", path, b"...", io.BytesIO(), Image.new("L", (1, 1)), PIXELS):
        assert list_images(one) == [one] or one is PIXELS
        assert len(list_images([one, one])) == 2
        assert len(list_images(one for _ in range(3))) == 3
    assert len(list_images(PIXELS[:, :, 0])) == 1
    assert len(list_images(np.stack([PIXELS] * 4))) == 4
    for wrong, came in ((None, "None"), (3, "int 3"), ({"a.png"}, "a set")):
        with pytest.raises(ValueError, match=f"^images: expected a list .*got {came}"):
            list_images(wrong)


def test_a_prompt_for_each_or_one_for_all():
    assert list_prompts("cat", 3) == ["cat"] * 3
    assert list_prompts((f"{i}" for i in range(2)), 2) == ["0", "1"]
    assert list_prompts([], 0) == []
    for wrong, count, message in (
        (["x"], 2, "got 2 images and 1 prompts; a single text"),
        (["x", None], 2, r"prompts\[1\]: expected text, got None"),
        (["x", b"y"], 2, r"prompts\[1\]: expected text, got bytes b'y'"),
        (["x\ud800"], 1, r"prompts\[0\]: .*lone surrogate '\\ud800' as character 1"),
        (b"x", 1, "prompts: expected one text for all images, or a list .*got bytes"),
        (None, 1, "prompts: .*got None"),
        ({"x": 1}, 1, "prompts: .*got a dict"),
    ):
        with pytest.raises(ValueError, match=message):
            list_prompts(wrong, count)


def test_batch_sizes():
    assert check_batch_size(np.int64(3)) == 3
    for wrong in (0, -1, 1.5, 2.0, "2", None, True):
        message = f"of at least 1, got {re.escape(repr(wrong))}"
        with pytest.raises(ValueError, match=message):
            check_batch_size(wrong)


def test_every_kind_of_array_is_the_same_picture():
    grey = PIXELS[:, :, 0]
    for array, expected in (
        (PIXELS, PIXELS),
        (PIXELS / np.float64(255), PIXELS),
        ((PIXELS / 255).astype(np.float32), PIXELS),
        (grey, np.stack([grey] * 3, -1)),
        (grey[:, :, None], np.stack([grey] * 3, -1)),
        (grey / 255, np.stack([grey] * 3, -1)),
        (np.dstack([PIXELS, np.full((5, 7), 255, np.uint8)]), PIXELS),
        (np.zeros((5, 7, 4), np.uint8), np.full((5, 7, 3), 255)),
        (np.zeros((5, 7, 4)), np.full((5, 7, 3), 255)),  # clear, so white
        (PIXELS[::-1, ::2], PIXELS[::-1, ::2]),
    ):
        found = read_picture(array, "images[0]")
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, expected)


def test_files_are_read_from_their_start(tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, "PNG")  # leaves it at its end
    path = tmp_path / "a.png"
    path.write_bytes(buffer.getvalue())
    with path.open("rb") as file:
        for image in (buffer, file, memoryview(buffer.getvalue()), path, str(path)):
            np.testing.assert_array_equal(read_picture(image, "images[0]"), PIXELS)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("https://x.org/a.png", "expected a path, got the URL https://x.org/a.png; do"),
        ("gone.png", "gone.png: expected an image file, got nothing of that name"),
        (b"GIF", "<3 bytes>: expected one of PNG"),
        (None, "expected a path, encoded bytes, .* got None"),
        (3.5, "expected a path, .* got float 3.5"),
        ([PIXELS], "expected a path, .* got list"),
        (io.StringIO("x"), "expected a file of bytes, got str 'x'; open it with mode"),
        (
            PIXELS * 1.0,
            r"floats in \[0, 1\], got float64\[5, 7, 3\] from 0 to 248; resc",
        ),
        (np.full((2, 2), np.nan), r"floats in \[0, 1\], got .* from nan to nan"),
        (PIXELS.astype(np.int64), r"got int64\[5, 7, 3\]; convert it to uint8"),
        (PIXELS.astype("U3"), r"got <U3\[5, 7, 3\]"),
        (PIXELS > 3, r"got bool\[5, 7, 3\]; convert"),
        (PIXELS.transpose(2, 0, 1), r"got uint8\[3, 5, 7\]; channels come last"),
        (
            np.zeros((9, 5, 7), np.uint8),
            r"got uint8\[9, 5, 7\]; for several images, give a list",
        ),
        (
            np.zeros((0, 512, 3), np.uint8),
            r"at least one pixel, got uint8\[0, 512, 3\]",
        ),
        (np.zeros((0, 5)), "at least one pixel"),
        (np.float32(3), r"got float32\[\]"),
    ],
)
def test_what_is_no_image_is_named(image, message):
    with pytest.raises(ImageError, match=rf"^images\[7\]: .*{message}"):
        read_picture(image, "images[7]")
