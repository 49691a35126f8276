"""Scans of a JPEG: a small file may ask for thousands of passes over its pixels."""

import io

import numpy as np
import pytest
from PIL import Image

from rahf import images
from rahf.images import ImageError


@pytest.fixture(name="picture")
def _picture():
    return np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)


def _encode(pixels, format_, **options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format_, **options)
    return file.getvalue()


def test_a_jpeg_of_endless_scans_is_refused(picture):
    data = _encode(picture, "JPEG", progressive=True)
    assert images.read_image(data).shape == picture.shape
    last = data.rindex(b"\xff\xda")
    bomb = data[:last] + data[last:-2] * 5000 + data[-2:]
    with pytest.raises(ImageError, match="at most 100 scans, got 50"):
        images.read_image(bomb)


def _segment(marker, content):
    return b"\xff" + marker + (len(content) + 2).to_bytes(2) + content


def test_only_a_jpegs_own_scans_count(picture):
    data = _encode(picture, "JPEG", progressive=True)
    expected = images.read_image(data)
    film = (
        b"\x00\x02" + b"\xff\xda\x00\x02" * 500
    )  # behind the end, as in a motion photo
    np.testing.assert_array_equal(images.read_image(data + film), expected)
    # A thumbnail in a segment has an end of its own.
    small = _segment(b"\xe3", film[:300] + _encode(picture[:8, :8], "JPEG"))
    np.testing.assert_array_equal(
        images.read_image(data[:2] + small + data[2:]), expected
    )
    last = data.rindex(b"\xff\xda")
    bomb = data[:2] + small + data[2:last] + data[last:-2] * 300 + data[-2:]
    with pytest.raises(ImageError, match="at most 100 scans, got 30"):
        images.read_image(bomb)


def test_the_scans_of_several_pictures_in_one_file_count(picture):
    """MPO is what cameras write, and the same file to the JPEG decoder."""
    file = io.BytesIO()
    frame = Image.fromarray(picture)
    frame.save(file, "MPO", save_all=True, append_images=[frame], progressive=True)
    data = file.getvalue()
    assert images.read_image(data).shape == picture.shape
    end = data.index(b"\xff\xd9")
    last = data.rindex(b"\xff\xda", 0, end)
    bomb = data[:last] + data[last:end] * 300 + data[end:]
    assert Image.open(io.BytesIO(bomb)).format == "MPO"
    with pytest.raises(ImageError, match="at most 100 scans, got 30"):
        images.read_image(bomb)
