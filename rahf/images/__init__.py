"""Reads image files as uint8[H, W, 3], and writes and displays heatmaps.

Legend: H height, W width, in pixels; row 0 is the top.
"""

import contextlib
import io
import os
import pathlib
import warnings
from collections.abc import Callable, Iterator
from typing import IO

import numpy as np
from PIL import Image

from rahf.images import limits
from rahf.images.colormap import colormap
from rahf.images.formats import FORMATS, is_image
from rahf.images.heatmaps import to_bytes, write_heatmap
from rahf.images.limits import MAX_BYTES, MAX_PIXELS, MAX_SIDE, ImageError
from rahf.images.overlays import legend, overlay, overlay_picture
from rahf.images.plain import is_plain, without_metadata
from rahf.images.resizing import resize

__all__ = [
    "FORMATS",
    "MAX_BYTES",
    "MAX_PIXELS",
    "MAX_SIDE",
    "ImageError",
    "colormap",
    "from_pillow",
    "is_image",
    "is_plain",
    "legend",
    "measure",
    "overlay",
    "overlay_picture",
    "read_encoded",
    "read_heatmap",
    "read_image",
    "read_map",
    "read_size",
    "resize",
    "to_bytes",
    "without_metadata",
    "write_heatmap",
]

_Convert = Callable[[Image.Image, str], np.ndarray]

_ORIENTATION = 0x0112  # the Exif tag
_WHITE = (255, 255, 255, 255)
# The number of pixels to convert at a time.
_STRIP = 1_000_000


def read_image(
    source: str | os.PathLike | bytes, *, max_pixels: int = MAX_PIXELS
) -> np.ndarray:
    """Reads an image file in any common format as plain RGB.

    The Exif orientation is applied, transparency is composited over white, palette,
    grey, 16-bit and CMYK pixels become 8-bit RGB, and of an animation the first frame
    is read. The format is detected from the content, not the file name. Colour profiles
    are ignored.

    A JPEG or JPEG 2000 that needs more memory than `rahf.images.limits` allows is
    decoded at a half, a quarter or an eighth of its sides.

    Args:
      source: a path, or the encoded bytes.
      max_pixels: limit on height * width. Like `MAX_SIDE`, it is checked on the header
        before any pixel is decoded; `MAX_BYTES` is checked before the file is read.

    Returns:
      uint8[H, W, 3].

    Raises:
      ImageError: the file does not exist, is not an image, is damaged, or exceeds a
        limit.
    """
    return _read(source, from_pillow, max_pixels, 3)


def read_map(
    source: str | os.PathLike | bytes, *, max_pixels: int = MAX_PIXELS
) -> np.ndarray:
    """Reads a heatmap of a dataset, an image of one channel of 8 or 16 bits.

    Args:
      source: a path, or the encoded bytes.
      max_pixels: as in `read_image`.

    Returns:
      float32[H, W] in [0, 1], where 1 is the largest value of the pixel's type.

    Raises:
      ImageError: as `read_image`, or there is more than one channel.
    """
    return _read(source, _map_from_pillow, max_pixels, 4)


def _map_from_pillow(image: Image.Image, name: str) -> np.ndarray:
    image.load()
    full = {"1": 1, "L": 255, "I;16": 65535, "I;16B": 65535, "I": 65535}
    if image.mode not in full:
        came, remedy = f"mode {image.mode}", "save it as 8-bit or 16-bit grey PNG"
        raise ImageError(name, "a heatmap of one grey channel", came, remedy)
    values = np.empty((image.height, image.width), np.float32)
    for rows, strip in _strips(image):
        values[rows] = np.asarray(strip, np.float32) / np.float32(full[image.mode])
    if not (values.min() >= 0 and values.max() <= 1):
        raise _damaged(name, f"grey values from {values.min()} to {values.max()}")
    return values


def _strips(image: Image.Image) -> Iterator[tuple[slice, Image.Image]]:
    """Yields an image in strips of full width, to save memory."""
    height = max(1, _STRIP // image.width)
    for top in range(0, image.height, height):
        rows = slice(top, min(top + height, image.height))
        yield rows, image.crop((0, rows.start, image.width, rows.stop))


def _read(source, convert: _Convert, max_pixels: int, result: int) -> np.ndarray:
    """Reads a path or bytes; the result takes `result` bytes per pixel."""
    if isinstance(source, bytes | bytearray | memoryview):
        name = f"<{memoryview(source).nbytes} bytes>"
        limits.check_size(name, memoryview(source).nbytes)
        return _decode(io.BytesIO(bytes(source)), name, convert, max_pixels, result)
    with _open(source) as (file, name):
        return _decode(file, name, convert, max_pixels, result)


@contextlib.contextmanager
def _open(source: object) -> Iterator[tuple[IO[bytes], str]]:
    """Opens an image file whose size is within the limit."""
    if not isinstance(source, str | os.PathLike):  # such as an empty cell of a table
        raise ImageError(
            "<image>", "a path or bytes", type(source).__name__, "check the field"
        )
    path = pathlib.Path(source)
    name = str(path)
    try:
        if not path.is_file():
            came = "a folder" if path.is_dir() else "nothing of that name"
            raise ImageError(name, "an image file", came, "check the path")
        with path.open("rb") as file:
            limits.check_size(name, os.fstat(file.fileno()).st_size)
            yield file, name
    except PermissionError as error:
        raise ImageError(
            name, "a readable file", "no permission", "check its owner and mode"
        ) from error
    except OSError as error:
        raise ImageError(name, "a readable file", str(error), "check it") from error


def read_encoded(path: str | os.PathLike) -> bytes:
    """Returns the bytes of an image file, to be decoded later.

    Raises:
      ImageError: the file cannot be read, or has more than `MAX_BYTES`.
    """
    with _open(path) as (file, _):
        return file.read()


def measure(source: str | os.PathLike | bytes) -> int:
    """Returns the decoded size of an image in bytes, from its header.

    `source` is a path or encoded bytes. The size is 0 if the image cannot be read;
    `read_image` then raises the reason.
    """
    encoded = isinstance(source, bytes)
    bytes_ = contextlib.nullcontext((io.BytesIO(source), "")) if encoded else None
    try:
        with (
            bytes_ or _open(source) as (file, name),
            _identify(file, name, MAX_PIXELS) as image,
        ):
            return 3 * image.width * image.height
    except ImageError:
        return 0


def read_size(path: str | os.PathLike) -> tuple[int, int]:
    """Returns the width and height of an upright image in pixels, from its header.

    Raises:
      ImageError: as `read_image`, except for damage beyond the header.
    """
    with _open(path) as (file, name), _identify(file, name, MAX_PIXELS) as image:
        if image.width * image.height > MAX_PIXELS:
            came = f"{image.width} x {image.height} pixels"
            raise limits.too_large(name, MAX_PIXELS, came)
        turned = _orientation(image) in _TURNED
        width, height = image.size
        return (height, width) if turned else (width, height)


def _identify(file: IO[bytes], name: str, max_pixels: int) -> Image.Image:
    """Opens an image without decoding it."""
    limits.check_canvas(name, file.read(30), max_pixels)
    file.seek(0)
    # Depending on the format, Pillow reports damage as OSError, SyntaxError,
    # struct.error, EOFError and more; here all become one class.
    try:
        with warnings.catch_warnings():
            # They are about damaged metadata, and sizes over Pillow's lower limit.
            warnings.simplefilter("ignore")
            return Image.open(file, formats=FORMATS)
    except Image.UnidentifiedImageError as error:
        raise ImageError(
            name,
            f"one of {', '.join(FORMATS)}",
            "a file in none of these formats",
            "check the file, or convert it to PNG",
        ) from error
    except Image.DecompressionBombError as error:
        raise limits.too_large(name, max_pixels, str(error)) from error
    except Exception as error:
        raise _damaged(name, error) from error


def _decode(
    file: IO[bytes], name: str, convert: _Convert, max_pixels: int, result: int
) -> np.ndarray:
    """Decodes an open file."""
    with _identify(file, name, max_pixels) as image:
        size = limits.prepare(image, file, name, max_pixels, result)
        if image.width < 1 or image.height < 1:
            raise _damaged(name, f"{image.width} x {image.height} pixels")
        try:
            with warnings.catch_warnings(), limits.decoding(size):
                warnings.simplefilter("ignore")
                return convert(image, name)
        except ImageError:
            raise
        except Exception as error:
            raise _damaged(name, error) from error


def _damaged(name: str, why: object) -> ImageError:
    return ImageError(
        name,
        "an intact image",
        f"a damaged one ({str(why) or type(why).__name__})",
        "create or download it again",
    )


def from_pillow(image: Image.Image, name: str = "a Pillow image") -> np.ndarray:
    """Converts a Pillow image as `read_image` does after decoding.

    Args:
      image: an image of any mode.
      name: its name in error messages.

    Returns:
      uint8[H, W, 3], upright, with transparency over white.

    Raises:
      ImageError: grey values are outside their range.
    """
    image.load()  # makes a TIFF upright, and drops its orientation
    if not image.width or not image.height:
        came = f"{image.width} x {image.height}"
        raise ImageError(name, "an image of at least one pixel", came, "check it")
    orientation = _orientation(image)
    wide = image.mode in ("I", "F") or image.mode.startswith("I;16")
    if wide:
        _check_grey(image, name)
    sides = (image.height, image.width)
    upright = sides[::-1] if orientation in _TURNED else sides
    pixels = np.empty((*upright, 3), np.uint8)
    view = _VIEWS[orientation](pixels)  # in the order of the stored pixels
    for rows, strip in _strips(image):
        if wide:
            strip = _to_8bit(strip)
        if strip.has_transparency_data:
            rgba = strip.convert("RGBA")
            strip = Image.alpha_composite(Image.new("RGBA", rgba.size, _WHITE), rgba)
        view[rows] = np.asarray(strip if strip.mode == "RGB" else strip.convert("RGB"))
    return pixels


# Exif orientation -> view of upright pixels in the order of the stored ones.
_VIEWS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda pixels: pixels,
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels),
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: lambda pixels: np.rot90(pixels, -1),
}
_TURNED = (5, 6, 7, 8)


def _orientation(image: Image.Image) -> int:
    """Returns the Exif orientation, a key of `_VIEWS`."""
    try:
        value = image.getexif().get(_ORIENTATION)
        return value if value in _VIEWS else 1
    except Exception:  # noqa: BLE001  damaged metadata does not spoil the pixels
        return 1


def _check_grey(image: Image.Image, name: str) -> None:
    """Raises ImageError if grey values of more than 8 bits are out of range."""
    full = _full(image)
    # numpy propagates NaN, for which the comparisons below are False.
    ends = [(x.min(), x.max()) for x in (np.asarray(s) for _, s in _strips(image))]
    low, high = np.min(ends), np.max(ends)
    if not (low >= 0 and high <= full):
        raise ImageError(
            name,
            f"grey values in [0, {full:g}]",
            f"[{low:g}, {high:g}]",
            "save it as 8-bit or 16-bit PNG",
        )


def _full(image: Image.Image) -> float:
    # Integer grey is 16-bit (PNG, TIFF, PGM). Float grey has no fixed range; [0, 1] is
    # the only one that can be recognised.
    return 1.0 if image.mode == "F" else 65535


def _to_8bit(image: Image.Image) -> Image.Image:
    """Converts grey of more than 8 bits to L, or LA if a value means transparent."""
    values = np.asarray(image)
    grey = Image.fromarray(
        np.rint(values * np.float32(255 / _full(image))).astype(np.uint8)
    )
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        alpha = np.where(values == transparent, 0, 255).astype(np.uint8)
        grey.putalpha(Image.fromarray(alpha))
    return grey


def read_heatmap(path: str | os.PathLike) -> np.ndarray:
    """Reads a PNG of `write_heatmap` as float32[H, W] in [0, 1].

    Earlier versions wrote 16 bits, where 65535 is 1; those are read too.
    """
    return _read(path, _heatmap_from_pillow, MAX_PIXELS, 4)


def _heatmap_from_pillow(image: Image.Image, name: str) -> np.ndarray:
    if image.mode == "L":
        return np.asarray(image, np.float32) / 255
    if not image.mode.startswith("I"):
        raise ImageError(name, "a grey PNG", f"mode {image.mode}", "check the path")
    return np.asarray(image, np.float32) / 65535
