"""Which files are shown as they are, and without what."""

import io
import zlib

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


def _segment(marker: int, text: bytes) -> bytes:
    return bytes([0xFF, marker]) + (len(text) + 2).to_bytes(2, "big") + text


def _hidden(where: str) -> bytes:
    data = _encode("JPEG", progressive=True)
    if where == "behind the end":
        return data + SECRET
    if where == "between scans":
        at = data.rindex(b"\xff\xda")
        return data[:at] + _segment(0xFE, SECRET) + data[at:]
    if where == "before the end":
        return data[:-2] + _segment(0xE1, SECRET) + data[-2:]
    if where == "in a thumbnail":
        return data[:2] + _segment(0xE0, b"JFXX\0\x10" + SECRET) + data[2:]
    if where == "in Adobe's place":
        return data[:2] + _segment(0xEE, b"XXXX" + SECRET) + data[2:]
    png = _encode("PNG")
    chunk = len(SECRET).to_bytes(4, "big") + b"ZZZZ" + SECRET
    return png[:33] + chunk + zlib.crc32(b"ZZZZ" + SECRET).to_bytes(4, "big") + png[33:]


@pytest.mark.parametrize(
    "where",
    [
        "behind the end",
        "between scans",
        "before the end",
        "in a thumbnail",
        "in Adobe's place",
        "in a chunk",
    ],
)
def test_nothing_hides_in_other_places(where):
    data = _hidden(where)
    bare = images.without_metadata(data)
    assert SECRET in data and bare is not None and SECRET not in bare
    np.testing.assert_array_equal(images.read_image(bare), images.read_image(data))


def test_of_a_file_of_unusual_build_nothing_is_said():
    data = _encode("JPEG")
    for stray in (b"\xff\x00", b"x", b"\xff\xd0"):
        at = data.index(b"\xff\xdb")
        assert images.without_metadata(data[:at] + stray + data[at:]) is None
    assert images.without_metadata(_encode("PNG")[:-12]) is None
    assert images.without_metadata(data[:-2]) is None
