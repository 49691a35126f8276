"""What decoding an image may cost: refused, reduced or waited for before it is paid.

A file of a few bytes can ask for gigabytes. The budget: an encoded image has at most
`MAX_BYTES`; decoding takes at most `BYTES_PER_PIXEL` for each of the `MAX_PIXELS` an
image may have, 1 GB, and so do all images that a process decodes at the same time.
"""

import contextlib
import os
import re
import threading
from collections.abc import Iterator
from typing import IO

from PIL import Image

# 100 megapixels are 300 MB of RGB: larger than any generator's output, and small
# enough that a hostile file cannot take the machine down.
MAX_PIXELS = 100_000_000
# The longest side that JPEG can have. Shrinking a longer strip would take tables of
# gigabytes: a coefficient for each of its pixels and each pixel of the result.
MAX_SIDE = 65_535
#: The largest encoded image, in bytes. Checked before a file is opened.
MAX_BYTES = 256 * 2**20
#: Memory that decoding may take for each pixel of the limit: with `MAX_PIXELS`, 1 GB.
BYTES_PER_PIXEL = 10

# What a decoder holds beside the image: measured on images of 16 megapixels. WebP has
# two canvases and a frame of 4 bytes, JPEG 2000 an integer for each channel.
_DECODER = {"WEBP": 12, "AVIF": 10, "JPEG2000": 20, "TIFF": 3}
# A JPEG of several scans keeps the coefficients: bytes for each pixel and channel.
_COEFFICIENT = 2
# Bytes of Pillow's pixels; other modes take 4.
_PIXEL = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2}
# Formats that can be decoded at a half, a quarter or an eighth of their sides.
_REDUCIBLE = ("JPEG", "MPO", "JPEG2000")

# Each scan of a progressive JPEG passes over all of its pixels: a small file can ask
# for thousands. Encoders write about ten.
_MAX_SCANS = 100
# In a scan's data FF stands before 00 or a restart, D0 to D7; FF itself may fill up.
_MARKER = re.compile(rb"\xff[\x02-\xcf\xd8-\xfe]", re.DOTALL)
_CHUNK = 2**20


class ImageError(ValueError):
    """An image that cannot be used: which, what was expected, what came, what to do."""

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
            name, "an image file", "zero bytes", "the copy or download was cut: redo it"
        )
    if size > MAX_BYTES:
        raise ImageError(
            name,
            f"an image file of at most {MAX_BYTES // 2**20} MiB",
            f"{size / 2**20:,.0f} MiB",
            "save it again, or make it smaller",
        )


def check_canvas(name: str, head: bytes, max_pixels: int) -> None:
    """Raises ImageError where the head of a WebP asks for too many pixels.

    Its decoder allocates the canvas as soon as the file is opened.

    Args:
      name: of the image, for the error.
      head: its first 30 bytes, of any format.
      max_pixels: the limit.
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
    """Checks an opened image by its header, and reduces it where that is needed.

    Args:
      image: opened and not yet decoded.
      file: that it is decoded from.
      name: for errors.
      max_pixels: the limit on height * width.
      result: bytes per pixel of the array that it will become.

    Returns:
      How many bytes decoding will take at most.

    Raises:
      ImageError: it is over a limit.
    """
    width, height = image.size
    if width * height > max_pixels:
        raise too_large(name, max_pixels, f"{width} x {height}")
    if max(width, height) > MAX_SIDE:
        expected = f"sides of at most {MAX_SIDE} pixels"
        raise ImageError(name, expected, f"{width} x {height}", "cut it into parts")
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
        if scans > 1:  # it keeps the coefficients of all pixels
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
    """The pixels of a tile, which a small TIFF may say is a large one."""
    tags = getattr(image, "tag_v2", {})
    width, height = tags.get(322, 0), tags.get(323, 0)
    return width * height if isinstance(width, int) and isinstance(height, int) else 0


def _reduce(image: Image.Image, pixels: int) -> int:
    """Has an image decoded at 1/2, 1/4 or 1/8 of its sides, to `pixels` if it can.

    Returns:
      The pixels that it will have.
    """
    width, height = image.size
    power = next((n for n in (1, 2) if width * height <= pixels << (2 * n)), 3)
    if image.format == "JPEG2000":
        image.reduce = power  # pyright: ignore[reportAttributeAccessIssue]
        return -(-width >> power) * -(-height >> power)
    image.draft(image.mode, (max(1, width >> power), max(1, height >> power)))
    return image.width * image.height


def too_large(name: str, max_pixels: int, came: str) -> ImageError:
    """Returns the error about an image of too many pixels."""
    return ImageError(
        name,
        f"at most {max_pixels / 1e6:g} megapixels",
        came,
        "make it smaller, or raise max_pixels if you trust the file",
    )


def count_scans(file: IO[bytes]) -> int:
    """Counts the scans of a JPEG; segments may hold pictures, and films follow its end.

    The file is read in parts, and not beyond the image's end.
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
            if found[0] == b"\xff\xd8":  # the start, which has no length
                continue
            if at + 2 > len(data):
                at = found.start()
                break
            scans += found[0] == b"\xff\xda"
            at += int.from_bytes(data[at : at + 2])
        else:
            if at < len(data):
                at = len(data) - data.endswith(b"\xff")  # perhaps half of a marker
        skip += max(0, at - len(data))
        data = data[at:]
    return scans


class _Budget:
    """Memory that the threads of a process share; who asks for more than is left waits."""

    def __init__(self, size: int):
        self._size, self._held = size, 0
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def taking(self, size: int) -> Iterator[None]:
        size = min(size, self._size)  # a larger one has it alone
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


# What other threads held when a process was forked is never given back in the copy.
os.register_at_fork(after_in_child=_renew)


def decoding(size: int) -> contextlib.AbstractContextManager[None]:
    """Waits until `size` bytes more fit into what a process may take to decode."""
    return _budget.taking(size)
