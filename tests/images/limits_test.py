"""A decode is bounded before it is paid for: on disk, in memory, in other threads."""

import io
import struct
import threading

import numpy as np
import pytest
from PIL import Image

from rahf import images
from rahf.images import ImageError, limits


def _encode(pixels, kind, **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


@pytest.fixture(name="picture")
def _picture():
    y, x = np.mgrid[:48, :80]
    return np.stack([x * 3, y * 5, 250 - x - y], -1).astype(np.uint8)


def test_a_file_is_refused_by_its_size_on_disk(picture, tmp_path):
    path = tmp_path / "tail.jpg"
    data = _encode(picture, "JPEG")
    path.write_bytes(data)
    with path.open("r+b") as file:
        file.truncate(1_500_000_000)  # a hole: no disk is used
    for read in (images.read_image, images.read_map, images.read_encoded):
        with pytest.raises(
            ImageError, match=r"tail\.jpg: expected .*at most 256 MiB, got 1,431 MiB"
        ):
            read(path)
    with path.open("r+b") as file:
        file.truncate(50_000_000)  # within the limit: the tail is not read
    np.testing.assert_array_equal(images.read_image(path), images.read_image(data))
    path.write_bytes(data)
    assert images.read_encoded(path) == data


def test_bytes_have_the_same_limit(picture, monkeypatch):
    data = _encode(picture, "PNG")
    monkeypatch.setattr(limits, "MAX_BYTES", len(data))
    assert images.read_image(data).shape == picture.shape
    for longer in (data + b"\0", bytearray(data + b"\0"), memoryview(data + b"\0")):
        with pytest.raises(ImageError, match="expected an image file of at most"):
            images.read_image(longer)


def test_the_tail_of_a_jpeg_is_not_read(picture):
    class Counting(io.BytesIO):
        taken = 0

        def read(self, size=-1):
            data = super().read(size)
            self.taken += len(data)
            return data

    data = _encode(picture, "JPEG", progressive=True)
    file = Counting(data + bytes(20_000_000))
    assert limits.count_scans(file) == data.count(b"\xff\xda")
    assert file.taken <= 2 * limits._CHUNK


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 100])
def test_scans_are_counted_across_parts_of_the_file(picture, monkeypatch, chunk):
    data = _encode(picture, "JPEG", progressive=True)
    expected = limits.count_scans(io.BytesIO(data))
    monkeypatch.setattr(limits, "_CHUNK", chunk)
    assert limits.count_scans(io.BytesIO(data)) == expected > 5


def _webp(kind: bytes, width: int, height: int) -> bytes:
    """The first bytes of a WebP that says it is large."""
    sides = (width - 1) | (height - 1) << 14
    body = {
        b"VP8X": bytes(4)
        + (width - 1).to_bytes(3, "little")
        + (height - 1).to_bytes(3, "little"),
        b"VP8L": b"\x2f" + sides.to_bytes(4, "little") + bytes(5),
        b"VP8 ": b"\x00\x00\x00\x9d\x01\x2a"
        + width.to_bytes(2, "little")
        + height.to_bytes(2, "little"),
    }[kind]
    return b"RIFF\x1a\0\0\0WEBP" + kind + len(body).to_bytes(4, "little") + body


@pytest.mark.parametrize("kind", [b"VP8X", b"VP8L", b"VP8 "])
def test_a_webp_is_refused_before_its_canvas_is_made(kind, monkeypatch):
    def opened(*args, **kwargs):
        raise AssertionError("it was opened")

    monkeypatch.setattr(Image, "open", opened)
    with pytest.raises(ImageError, match="at most 100 megapixels, got 16000 x 15000"):
        images.read_image(_webp(kind, 16_000, 15_000))


def test_what_takes_too_much_to_decode_is_refused(picture):
    # 19 bytes a pixel with its canvases, where 10 are allowed.
    data = _encode(picture, "WEBP")
    limit = picture.shape[0] * picture.shape[1]
    with pytest.raises(ImageError, match=r"takes at most .* a WEBP of 80 x 48, .*PNG"):
        images.read_image(data, max_pixels=limit)
    assert images.read_image(data, max_pixels=2 * limit).shape == picture.shape
    whole = images.read_image(_encode(picture, "PNG"), max_pixels=limit)
    np.testing.assert_array_equal(whole, picture)


@pytest.mark.parametrize(
    ("kind", "options"), [("JPEG", {"progressive": True}), ("JPEG2000", {})]
)
def test_it_is_decoded_reduced_where_the_format_can(picture, kind, options):
    data = _encode(picture, kind, **options)
    limit = picture.shape[0] * picture.shape[1]
    read = images.read_image(data, max_pixels=limit)
    assert read.shape == (24, 40, 3)
    small = images.resize(picture, (24, 40))
    assert np.abs(read.astype(int) - small).mean() < 5
    whole = images.read_image(data, max_pixels=4 * limit)
    assert whole.shape == picture.shape


def test_a_strip_that_cannot_be_reduced():
    data = _encode(np.zeros((1, 300, 3), np.uint8), "JPEG", progressive=True)
    assert images.read_image(data).shape == (1, 300, 3)
    with pytest.raises(ImageError, match="takes at most"):
        images.read_image(data, max_pixels=300)


def test_a_tiff_whose_tile_is_larger_than_itself():
    tags = {256: 16, 257: 16, 258: 8, 259: 5, 262: 1, 277: 1}  # 16 x 16, grey, LZW
    tags |= {322: 20_000, 323: 20_000, 324: 8, 325: 100}  # its tile, where it lies
    entries = [struct.pack("<HHII", tag, 4, 1, n) for tag, n in tags.items()]
    ifd = struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    data = b"II*\0" + struct.pack("<I", 8) + ifd
    with pytest.raises(ImageError, match="takes at most 1 GB .* which takes 2.8 GB"):
        images.read_image(data)


def test_strips_do_not_change_an_image(picture, monkeypatch):
    exif = Image.Exif()
    palette = Image.fromarray(picture).quantize(16)
    for orientation in range(1, 9):
        exif[0x0112] = orientation
        file = io.BytesIO()
        palette.save(file, "PNG", exif=exif, transparency=bytes(range(0, 250, 16)))
        expected = images.read_image(file.getvalue())
        monkeypatch.setattr(images, "_STRIP", 200)
        np.testing.assert_array_equal(images.read_image(file.getvalue()), expected)
        monkeypatch.undo()


def test_decodes_of_several_threads_share_one_budget():
    budget = limits._Budget(10)
    inside, go = threading.Event(), threading.Event()

    def second():
        with budget.taking(7):
            inside.set()
            go.wait(10)

    with budget.taking(4):
        thread = threading.Thread(target=second)
        thread.start()
        with budget.taking(6):
            assert not inside.wait(0.05)
    assert inside.wait(10)
    go.set()
    thread.join(10)
    with budget.taking(1000):  # more than there is: alone, but not for ever
        pass


def test_images_without_pixels_are_refused():
    for shape in ((0, 512, 3), (512, 0, 3)):
        with pytest.raises(ImageError, match=r"at least one pixel, got uint8\["):
            images.resize(np.zeros(shape, np.uint8), (8, 8))
    with pytest.raises(ImageError, match="at least one pixel, got 0 x 5"):
        images.from_pillow(Image.new("RGB", (0, 5)))
    with pytest.raises(ValueError, match=r"expected a heatmap \[H, W\]"):
        images.write_heatmap("never.png", np.zeros((0, 4), np.float32))
