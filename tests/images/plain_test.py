"""Which files are shown as they are, and without what."""

import io

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from rahf import images

PIXELS = np.random.default_rng(0).integers(0, 256, (9, 14, 3)).astype(np.uint8)
SECRET = b"made by model seven"


def _encode(format_, image=None, **options) -> bytes:
    file = io.BytesIO()
    (image or Image.fromarray(PIXELS)).save(file, format_, **options)
    return file.getvalue()


def _rotated() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return _encode("JPEG", exif=exif)


def _loud(format_) -> bytes:
    exif = Image.Exif()
    exif[0x0131] = SECRET.decode()  # software
    if format_ == "PNG":
        info = PngImagePlugin.PngInfo()
        info.add_text("parameters", SECRET.decode())
        return _encode("PNG", pnginfo=info, exif=exif, icc_profile=SECRET)
    options = {"exif": exif, "comment": SECRET, "icc_profile": SECRET}
    return _encode("JPEG", **options, progressive=True)


@pytest.mark.parametrize("format_", ["PNG", "JPEG"])
def test_what_generators_write_into_files_goes_and_pixels_stay(format_):
    data = _loud(format_)
    bare = images.without_metadata(data)
    assert SECRET in data and SECRET not in bare
    assert images.is_plain(data) and images.is_plain(bare)
    np.testing.assert_array_equal(images.read_image(bare), images.read_image(data))
    assert images.without_metadata(bare) == bare


def test_fill_bytes_before_a_marker_are_no_segment():
    data = _encode("JPEG", comment=SECRET)
    at = data.index(b"\xff\xfe")
    filled = data[:at] + b"\xff\xff" + data[at:]
    bare = images.without_metadata(filled)
    assert SECRET not in bare
    np.testing.assert_array_equal(images.read_image(bare), images.read_image(data))


def test_colours_of_adobe_files_stay():
    data = _encode("JPEG", Image.fromarray(PIXELS).convert("CMYK"))
    bare = images.without_metadata(data)
    np.testing.assert_array_equal(images.read_image(bare), images.read_image(data))
    assert not images.is_plain(data)


@pytest.mark.parametrize(
    "data",
    [
        _rotated(),
        _encode("WEBP"),
        _encode("PNG", Image.fromarray(PIXELS).convert("RGBA")),
        _encode("PNG", Image.fromarray(PIXELS).convert("L")),
        _encode("PNG", transparency=(1, 2, 3)),
    ],
    ids=["rotated", "webp", "alpha", "grey", "transparent"],
)
def test_files_that_programs_show_differently_are_not_plain(data):
    assert not images.is_plain(data)
