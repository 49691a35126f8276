"""Real files of every mode, written by Pillow or byte by byte, are read back."""

import io
import pickle
import random
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from rahf import images
from rahf.images import ImageError
from tests.support import counted


def _encode(image, kind="PNG", **options) -> bytes:
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _chunk(kind: bytes, data: bytes) -> bytes:
    body = kind + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))


def _png(width, height, depth, color, rows=b"", extra=b"") -> bytes:
    """A PNG of modes that Pillow does not write."""
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", header)
        + extra
        + _chunk(b"IDAT", zlib.compress(rows))
        + _chunk(b"IEND", b"")
    )


@pytest.fixture
def picture() -> np.ndarray:
    """uint8[24, 40, 3], different in every corner and smooth enough for JPEG."""
    y, x = np.mgrid[:24, :40]
    return np.stack([x * 6, y * 10, 250 - x * 3 - y * 3], -1).astype(np.uint8)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "WEBP", "JPEG2000"])
def test_lossless_formats_are_exact(picture, kind):
    options = {"lossless": True} if kind == "WEBP" else {}
    read = images.read_image(_encode(picture, kind, **options))
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, picture)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "AVIF"])
def test_lossy_formats_are_close(picture, kind):
    read = images.read_image(_encode(picture, kind, quality=95))
    assert np.abs(read.astype(int) - picture).mean() < 6


def test_content_decides_not_the_name(picture, tmp_path):
    path = tmp_path / "picture.jpg"
    path.write_bytes(_encode(picture, "PNG"))
    np.testing.assert_array_equal(images.read_image(path), picture)
    np.testing.assert_array_equal(images.read_image(str(path)), picture)


def test_grey_and_bilevel(picture):
    grey = picture[..., 0]
    expected = np.repeat(grey[..., None], 3, -1)
    np.testing.assert_array_equal(images.read_image(_encode(grey)), expected)
    bilevel = Image.fromarray(grey > 100)
    expected = np.where(expected > 100, 255, 0)
    np.testing.assert_array_equal(images.read_image(_encode(bilevel)), expected)


def test_palette(picture):
    paletted = Image.fromarray(picture).quantize(16)
    expected = np.asarray(paletted.convert("RGB"))
    np.testing.assert_array_equal(images.read_image(_encode(paletted)), expected)


def test_palette_transparency_is_white():
    paletted = Image.new("P", (3, 1))
    paletted.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    paletted.putdata([0, 1, 2])
    expected = [[[255, 0, 0], [255, 255, 255], [0, 0, 255]]]
    for kind in ("PNG", "GIF"):
        data = _encode(paletted, kind, transparency=1)
        assert images.read_image(data).tolist() == expected, kind
    half = _encode(paletted, transparency=bytes([255, 0, 51]))
    assert images.read_image(half).tolist() == [
        [[255, 0, 0], [255, 255, 255], [204, 204, 255]]
    ]


def test_alpha_is_laid_over_white():
    rgba = np.array([[[200, 0, 0, 255], [9, 9, 9, 0], [0, 0, 0, 51]]], np.uint8)
    expected = [[[200, 0, 0], [255, 255, 255], [204, 204, 204]]]
    assert images.read_image(_encode(rgba)).tolist() == expected
    grey = Image.fromarray(rgba).convert("LA")
    read = images.read_image(_encode(grey))
    assert read[0, 1].tolist() == [255] * 3
    assert read[0, 2].tolist() == [204] * 3


def test_pillow_images_are_treated_alike():
    rgba = np.array([[[200, 0, 0, 255], [9, 9, 9, 0]]], np.uint8)
    image = Image.fromarray(rgba)
    image.getexif()[0x0112] = 6
    assert images.from_pillow(image).tolist() == [[[200, 0, 0]], [[255] * 3]]
    with pytest.raises(ImageError, match=r"a Pillow image: expected grey values"):
        images.from_pillow(Image.fromarray(np.float32([[2]])))


def test_cmyk_jpeg(picture):
    red = Image.new("RGB", (16, 16), (220, 30, 20)).convert("CMYK")
    read = images.read_image(_encode(red, "JPEG", quality=95))
    assert np.abs(read.astype(int) - [220, 30, 20]).max() < 8


def test_16_bit_grey_is_scaled_not_clipped():
    values = np.array([[0, 255, 257, 32768, 65535]], np.uint16)
    expected = np.rint(values / 257)[0].tolist()
    little, big = values, values.astype(">u2")
    tiff = _encode(little, "TIFF")
    row = b"\0" + big.tobytes()
    for data in (_encode(little), tiff, _png(5, 1, 16, 0, row)):
        assert images.read_image(data)[0, :, 1].tolist() == expected
    pgm = b"P5 5 1 65535\n" + big.tobytes()
    assert images.read_image(pgm)[0, :, 1].tolist() == expected


def test_16_bit_grey_with_a_transparent_value():
    row = b"\0" + np.array([257, 65535], ">u2").tobytes()
    data = _png(2, 1, 16, 0, row, _chunk(b"tRNS", struct.pack(">H", 257)))
    assert images.read_image(data).tolist() == [[[255] * 3, [255] * 3]]


@pytest.mark.parametrize(("color", "channels"), [(2, 3), (4, 2), (6, 4)])
def test_16_bit_color_is_scaled(color, channels):
    values = np.full(channels, 0x80FF, ">u2")
    values[-1] = 0xFFFF  # opaque, where it is alpha
    read = images.read_image(_png(1, 1, 16, color, b"\0" + values.tobytes()))
    assert 128 <= read[0, 0, 0] <= 129
    assert read.shape == (1, 1, 3)


def test_float_grey():
    values = np.array([[0, 0.5, 1]], np.float32)
    read = images.read_image(_encode(values, "TIFF"))
    assert read[0, :, 0].tolist() == [0, 128, 255]
    for wrong in (values * 300, values - 1, values * np.nan):
        with pytest.raises(ImageError, match=r"grey values in \[0, 1\].*8-bit"):
            images.read_image(_encode(wrong, "TIFF"))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(kind, orientation):
    upright = np.zeros((16, 32, 3), np.uint8)
    upright[:8, :16] = [255, 0, 0]
    upright[8:, 16:] = [0, 0, 255]
    # How a camera held that way stores the upright picture (Exif 2.3, tag 0x0112).
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: upright.transpose(1, 0, 2)[::-1],
        7: upright.transpose(1, 0, 2)[::-1, ::-1],
        8: upright.transpose(1, 0, 2)[:, ::-1],
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    options |= {"quality": 100, "subsampling": 0} if kind == "JPEG" else {}
    data = _encode(np.ascontiguousarray(stored), kind, exif=exif, **options)
    read = images.read_image(data)
    assert read.shape == upright.shape
    assert np.abs(read.astype(int) - upright).max() < 8


def test_damaged_exif_is_ignored(picture):
    data = _encode(picture, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f")
    assert images.read_image(data).shape == picture.shape


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_animation_gives_its_first_frame(kind):
    red, blue = (Image.new("RGB", (8, 6), c) for c in ((255, 0, 0), (0, 0, 255)))
    data = _encode(red, kind, save_all=True, append_images=[blue], lossless=True)
    read = images.read_image(data)
    assert read.shape == (6, 8, 3)
    assert np.abs(read.astype(int) - [255, 0, 0]).max() < 4


@pytest.mark.parametrize("shape", [(1, 20000, 3), (20000, 1, 3), (1, 1, 3)])
def test_strips_are_read_and_resized(shape):
    data = _encode(np.full(shape, 77, np.uint8))
    assert images.read_image(data).shape == shape
    small = images.resize(images.read_image(data), (16, 24))
    assert small.shape == (16, 24, 3)
    assert (small == 77).all()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "TIFF", "AVIF"])
def test_truncated(kind):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    data = _encode(noise, kind)
    with pytest.raises(ImageError, match="damaged|none of these formats"):
        images.read_image(data[: len(data) // 2])


def test_missing_folder_and_empty_files(tmp_path):
    with pytest.raises(ImageError, match="gone.png.*nothing of that name.*check"):
        images.read_image(tmp_path / "gone.png")
    with pytest.raises(ImageError, match="got a folder"):
        images.read_image(tmp_path)
    (tmp_path / "empty.png").touch()
    with pytest.raises(ImageError, match=r"empty\.png.*zero bytes"):
        images.read_image(tmp_path / "empty.png")
    with pytest.raises(ImageError, match="zero bytes"):
        images.read_image(b"")


def test_what_is_no_image(tmp_path):
    path = tmp_path / "page.png"
    path.write_text("<html>404</html>")
    with pytest.raises(
        ImageError, match=r"page\.png.*one of PNG.*none of these formats"
    ):
        images.read_image(path)
    with pytest.raises(ImageError, match="none of these formats"):
        images.read_image(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")


def test_bombs_are_refused_by_their_header():
    for side in (10_001, 100_000, 2**31 - 1):
        with (
            counted.work() as done,
            pytest.raises(ImageError, match="at most 100 megapixels"),
        ):
            images.read_image(_png(side, side, 8, 2))
        assert not done.pixels


def test_the_limit_is_ours_not_pillows(picture):
    with pytest.raises(ImageError, match=r"at most 0\.0009 megapixels, got 40 x 24"):
        images.read_image(_encode(picture), max_pixels=900)
    assert images.read_image(_encode(picture), max_pixels=960).shape == picture.shape
    # 90 to 100 megapixels: Pillow warns there, and warnings are errors in here.
    large = _png(9_800, 10_000, 1, 0, bytes(1226) * 10_000)
    assert images.read_image(large).shape == (10_000, 9_800, 3)


def test_error_survives_a_worker_process():
    with pytest.raises(ImageError) as caught:
        images.read_image(b"?")
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (str(copy), copy.name) == (str(caught.value), caught.value.name)
    assert isinstance(copy, ImageError)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "TIFF"])
def test_mutated_bytes_raise_only_image_error(kind):
    """200 damaged copies of a file per format: read, or refused by the one class."""
    rng = random.Random(kind)
    noise = np.random.default_rng(1).integers(0, 255, (24, 32, 3), np.uint8)
    whole = _encode(noise, kind)
    refused = 0
    for _ in range(200):
        data = bytearray(whole)
        for _ in range(rng.choice([1, 3, 30])):
            # Half of the hits fall on the header, where the structure is.
            end = 64 if rng.random() < 0.5 else len(data)
            data[rng.randrange(min(end, len(data)))] = rng.randrange(256)
        if rng.random() < 0.3:
            del data[rng.randrange(len(data)) :]
        with counted.work() as done:
            try:
                read = images.read_image(bytes(data), max_pixels=1_000_000)
            except ImageError:
                refused += 1
            else:
                assert read.dtype == np.uint8
                assert read.ndim == 3 and read.shape[2] == 3
        assert sum(done.pixels) <= 1_000_000 and done.calls <= 10_000
    assert refused > 10


def test_resize_of_maps_stays_in_range():
    heatmap = np.zeros((8, 8), np.float32)
    heatmap[3, 3] = 1
    large = images.resize(heatmap, (80, 48))
    assert (large.dtype, large.shape) == (np.float32, (80, 48))
    assert large.min() == 0
    assert 0.8 < large.max() <= 1
    # Shrinking averages, as an antialiased filter does: no mass is lost.
    y, x = np.mgrid[:64, :64]
    blob = np.exp(-((x - 30) ** 2 + (y - 25) ** 2) / 40)
    small = images.resize(blob, (16, 16))
    assert small.mean() == pytest.approx(blob.mean(), rel=1e-3)
    same = images.resize(small, (16, 16))
    np.testing.assert_array_equal(same, small)


def test_heatmap_file_keeps_8_bits(tmp_path):
    path = tmp_path / "map.png"
    heatmap = np.linspace(0, 1, 6 * 9, dtype=np.float32).reshape(6, 9)
    images.write_heatmap(path, heatmap)
    read = images.read_heatmap(path)
    assert read.dtype == np.float32
    np.testing.assert_allclose(read, heatmap, atol=0.5 / 255 + 1e-7)
    with Image.open(path) as image:
        assert (image.mode, image.size) == ("L", (9, 6))
    for wrong in (heatmap * 2, heatmap - 1, heatmap * np.nan, heatmap[None]):
        with pytest.raises(ValueError, match=r"expected a heatmap \[H, W\]"):
            images.write_heatmap(path, wrong)
    images.write_heatmap(path, heatmap, (12, 27))
    expected = images.resize(heatmap, (12, 27))
    np.testing.assert_allclose(images.read_heatmap(path), expected, atol=1 / 255)
    Image.new("RGB", (4, 4)).save(path)
    with pytest.raises(ImageError, match="a grey PNG"):
        images.read_heatmap(path)


def test_heatmap_files_of_16_bits_are_read(tmp_path):
    grey = np.array([[0, 13107, 65535]], np.uint16)
    Image.fromarray(grey).save(tmp_path / "map.png")
    read = images.read_heatmap(tmp_path / "map.png")
    np.testing.assert_allclose(read, [[0, 0.2, 1]], atol=1e-6)


def test_colormap_rises_evenly():
    table = images.colormap()
    linear = ((table / 255 + 0.055) / 1.055) ** 2.4
    luminance = linear @ [0.2126, 0.7152, 0.0722]
    # CIE lightness, another measure than the one the scale is built with.
    steps = np.diff(116 * np.cbrt(luminance[::16]) - 16)
    assert steps.min() > 0.6 * steps.mean()
    assert steps.max() < 1.4 * steps.mean()
    assert len(np.unique(table, axis=0)) > 250


def test_cells_that_are_no_image():
    for cell in (None, 5, ["a"], {"bytes": b"?"}, float("nan")):
        with pytest.raises(ImageError, match="expected a path or bytes, got"):
            images.read_image(cell)
    for path in ("a" * 5000, "x\0y", "\ud800"):
        with pytest.raises(ImageError, match="expected a|nothing of that name"):
            images.read_image(path)


def test_any_bytes_will_do(picture):
    data = _encode(picture)
    for kind in (bytearray, memoryview):
        np.testing.assert_array_equal(images.read_image(kind(data)), picture)


def test_a_strip_that_would_take_tables_of_gigabytes_is_refused():
    for size in ((70_000, 1), (1, 70_000)):
        with pytest.raises(ImageError, match="sides of at most 65535 pixels"):
            images.read_image(_png(*size, 8, 0))


def test_maps_of_datasets():
    grey = np.array([[0, 51, 255]], np.uint8)
    read = images.read_map(_encode(grey))
    assert read.dtype == np.float32
    np.testing.assert_allclose(read, [[0, 0.2, 1]], atol=1e-7)
    deep = np.array([[0, 13107, 65535]], np.uint16)
    for data in (_encode(deep), _encode(deep, "TIFF"), _encode(grey > 0)):
        assert images.read_map(data).min() == 0
        assert images.read_map(data).max() == 1
    np.testing.assert_allclose(images.read_map(_encode(deep)), [[0, 0.2, 1]], atol=1e-6)
    with pytest.raises(ImageError, match="one grey channel, got mode RGB"):
        images.read_map(_encode(np.zeros((2, 2, 3), np.uint8)))
    with pytest.raises(ImageError, match="zero bytes"):
        images.read_map(b"")
