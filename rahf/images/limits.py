"""Limits the memory and time that decoding an image may take.

A file of a few bytes can demand gigabytes, so images are refused, reduced or delayed
before they are decoded. An encoded image has at most `MAX_BYTES`. Decoding takes at
most `BYTES_PER_PIXEL` for each of the `MAX_PIXELS` an image may have, 1 GB in total;
all images that a process decodes at the same time share this amount.
"""

import contextlib
import os
import re
import threading
from collections.abc import Iterator
from typing import IO

from PIL import Image

# 100 megapixels are 300 MB of RGB: larger than any generator's output, and small
# enough that a malicious file cannot exhaust the machine's memory.
MAX_PIXELS = 100_000_000
# The longest side of a JPEG. Shrinking a longer strip would need tables of gigabytes,
# with a coefficient for each of its pixels and each pixel of the result.
MAX_SIDE = 65_535
#: The largest encoded image, in bytes. Checked before a file is read.
MAX_BYTES = 256 * 2**20
#: Memory that decoding may take per pixel of the limit: with `MAX_PIXELS`, 1 GB.
BYTES_PER_PIXEL = 10

# Bytes per pixel that a decoder needs besides the image, measured on 16 megapixels.
# WebP has two canvases and a frame of 4 bytes, JPEG 2000 an integer per channel.
_DECODER = {"WEBP": 12, "AVIF": 10, "JPEG2000": 20, "TIFF": 3}
# Bytes per pixel and channel of the coefficients, which a JPEG of several scans keeps.
_COEFFICIENT = 2
# Bytes per pixel in Pillow; other modes take 4.
_PIXEL = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2}
# Formats that can be decoded at a half, a quarter or an eighth of their sides.
_REDUCIBLE = ("JPEG", "MPO", "JPEG2000")

# Each scan of a progressive JPEG processes all of its pixels, and a small file can have
# thousands. Encoders write about ten.
_MAX_SCANS = 100
# In a scan's data FF precedes 00 or a restart marker, D0 to D7; FF may also be padding.
_MARKER = re.compile(rb"\xff[\x02-\xcf\xd8-\xfe]", re.DOTALL)
_CHUNK = 2**20


class ImageError(ValueError):
    """An unusable image: its name, what was expected, what came, and what to do."""

    def __init__(self, name: str, expected: str, came: str, remedy: str):
        self.name = name
        super().__init__(f"{name}: expected {expected}, got {came}; {remedy}")

    def __reduce__(self):  # so that it survives a worker process
        return _rebuild, (self.name, str(self))


def _rebuild(name: str, message: str) -> ImageError:
    error = ImageError.__new__(ImageError)
    ValueError.__init__(error, message)
    error.name = name
    return error


def check_size(name: str, size: int) -> None:
    """Raises ImageError unless an encoded image has 1 to `MAX_BYTES` bytes."""
    if size == 0:
        raise ImageError(
            name, "an image file", "zero bytes", "copy or download it again"
        )
    if size > MAX_BYTES:
        raise ImageError(
            name,
            f"an image file of at most {MAX_BYTES // 2**20} MiB",
            f"{size / 2**20:,.0f} MiB",
            "save it again, or make it smaller",
        )


def check_canvas(name: str, head: bytes, max_pixels: int) -> None:
    """Raises ImageError if the header of a WebP demands too many pixels.

    The decoder of WebP allocates the canvas as soon as the file is opened.

    Args:
      name: the image's name, for the error.
      head: the first 30 bytes of the file, in any format.
      max_pixels: the limit on height * width.
    """
    if head[:4] != b"RIFF" or head[8:12] != b"WEBP":
        return

    def number(start: int, end: int) -> int:
        return int.from_bytes(head[start:end], "little")

    match head[12:16]:
        case b"VP8X":
            width, height = number(24, 27) + 1, number(27, 30) + 1
        case b"VP8L":
            sides = number(21, 25)
            width, height = (sides & 0x3FFF) + 1, (sides >> 14 & 0x3FFF) + 1
        case _:
            width, height = number(26, 28) & 0x3FFF, number(28, 30) & 0x3FFF
    if width * height > max_pixels:
        raise too_large(name, max_pixels, f"{width} x {height}")


def prepare(
    image: Image.Image, file: IO[bytes], name: str, max_pixels: int, result: int
) -> int:
    """Checks an opened image by its header, and reduces it if necessary.

    Args:
      image: the image, opened but not yet decoded.
      file: the file from which it will be decoded.
      name: the image's name, for errors.
      max_pixels: the limit on height * width.
      result: bytes per pixel of the resulting array.

    Returns:
      The most bytes that decoding will take.

    Raises:
      ImageError: the image exceeds a limit.
    """
    width, height = image.size
    if width * height > max_pixels:
        raise too_large(name, max_pixels, f"{width} x {height}")
    if max(width, height) > MAX_SIDE:
        expected = f"sides of at most {MAX_SIDE} pixels"
        raise ImageError(name, expected, f"{width} x {height}", "divide it into parts")
    each = _PIXEL.get(image.mode, 4) + result
    each += _DECODER.get(image.format or "", 0)
    fixed = 0
    if image.format in ("JPEG", "MPO"):
        if (scans := count_scans(file)) > _MAX_SCANS:
            raise ImageError(
                name,
                f"a JPEG of at most {_MAX_SCANS} scans",
                f"{scans}, which would take hours",
                "save it again",
            )
        if scans > 1:  # the decoder keeps the coefficients of all pixels
            fixed = width * height * _COEFFICIENT * len(image.getbands())
    pixels = max(width * height, _tile(image))
    budget = max_pixels * BYTES_PER_PIXEL
    if fixed + pixels * each > budget and image.format in _REDUCIBLE:
        pixels = _reduce(image, (budget - fixed) // each)
    if fixed + pixels * each > budget:
        raise ImageError(
            name,
            f"an image that takes at most {budget / 1e9:.3g} GB to decode",
            f"a {image.format} of {width} x {height}, which takes "
            f"{(fixed + pixels * each) / 1e9:.3g} GB",
            "make it smaller, or save it as PNG or JPEG",
        )
    return fixed + pixels * each


def _tile(image: Image.Image) -> int:
    """Returns the pixels of a TIFF's tile, which may be larger than the image."""
    tags = getattr(image, "tag_v2", {})
    width, height = tags.get(322, 0), tags.get(323, 0)
    return width * height if isinstance(width, int) and isinstance(height, int) else 0


def _reduce(image: Image.Image, pixels: int) -> int:
    """Sets an image to be decoded at 1/2, 1/4 or 1/8 of its sides, to fit `pixels`.

    Returns:
      The number of pixels that it will have, perhaps still too many.
    """
    width, height = image.size
    power = next((n for n in (1, 2) if width * height <= pixels << (2 * n)), 3)
    if image.format == "JPEG2000":
        image.reduce = power  # pyright: ignore[reportAttributeAccessIssue]
        return -(-width >> power) * -(-height >> power)
    image.draft(image.mode, (max(1, width >> power), max(1, height >> power)))
    return image.width * image.height


def too_large(name: str, max_pixels: int, came: str) -> ImageError:
    """Returns the error for an image with too many pixels."""
    return ImageError(
        name,
        f"at most {max_pixels / 1e6:g} megapixels",
        came,
        "make it smaller, or raise max_pixels if you trust the file",
    )


def count_scans(file: IO[bytes]) -> int:
    """Counts the scans of a JPEG, without thumbnails inside it or data after its end.

    The file is read in chunks, and not beyond the end of the image.
    """
    file.seek(0)
    data, scans, skip = b"", 0, 0
    while more := file.read(_CHUNK):
        data += more
        at = min(skip, len(data))
        skip -= at
        while found := _MARKER.search(data, at):
            if found[0] == b"\xff\xd9":
                return scans
            at = found.end()
            if found[0] == b"\xff\xd8":  # the start marker, which has no length
                continue
            if at + 2 > len(data):
                at = found.start()
                break
            scans += found[0] == b"\xff\xda"
            at += int.from_bytes(data[at : at + 2])
        else:
            if at < len(data):
                at = len(data) - data.endswith(b"\xff")  # perhaps half a marker
        skip += max(0, at - len(data))
        data = data[at:]
    return scans


class _Budget:
    """Memory shared by the threads of a process; they wait for what they need."""

    def __init__(self, size: int):
        self._size, self._held = size, 0
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def taking(self, size: int) -> Iterator[None]:
        size = min(size, self._size)  # a larger one has the budget to itself
        with self._changed:
            self._changed.wait_for(lambda: self._held + size <= self._size)
            self._held += size
        try:
            yield
        finally:
            with self._changed:
                self._held -= size
                self._changed.notify_all()


_budget = _Budget(MAX_PIXELS * BYTES_PER_PIXEL)


def _renew() -> None:
    global _budget
    _budget = _Budget(MAX_PIXELS * BYTES_PER_PIXEL)


# In a forked process, memory that other threads held would never be released.
os.register_at_fork(after_in_child=_renew)


def decoding(size: int) -> contextlib.AbstractContextManager[None]:
    """Waits until `size` more bytes fit into the process's budget for decoding."""
    return _budget.taking(size)
