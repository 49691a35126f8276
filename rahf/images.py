"""Images: any file people have -> uint8[H, W, 3], and heatmaps back into pictures.

Legend: H height, W width, in pixels; row 0 is the top.
"""

import functools
import io
import os
import pathlib
import re
import warnings
from collections.abc import Callable
from typing import IO

import numpy as np
from PIL import Image

# 100 megapixels decode to 300 MB of RGB: larger than any generator's output, and
# small enough that a hostile file cannot take the machine down.
MAX_PIXELS = 100_000_000
# The longest side that JPEG can have. Shrinking a longer strip would take tables of
# gigabytes: a coefficient for each of its pixels and each pixel of the result.
MAX_SIDE = 65_535

# Each scan of a progressive JPEG passes over all of its pixels: a small file can ask
# for thousands. Encoders write about ten.
_MAX_SCANS = 100
# In a scan's data FF stands before 00 or a restart, D0 to D7; FF itself may fill up.
_MARKER = re.compile(rb"\xff[\x02-\xcf\xd8-\xfe]", re.DOTALL)

# Decoders that are safe on files from strangers. Left out on purpose: EPS starts
# Ghostscript, and TGA has no signature, so noise would "decode".
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM")

_Convert = Callable[[Image.Image, str], np.ndarray]

_ORIENTATION = 0x0112  # the Exif tag
_WHITE = (255, 255, 255, 255)


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


def read_image(
    source: str | os.PathLike | bytes, *, max_pixels: int = MAX_PIXELS
) -> np.ndarray:
    """Reads an image file of any common kind as plain RGB.

    The Exif orientation is applied, transparency is laid over white, palette, grey,
    16-bit and CMYK pixels become 8-bit RGB, and an animation gives its first frame.
    The content decides the format, not the file name. Colour profiles are ignored.

    Args:
      source: a path, or the encoded bytes.
      max_pixels: limit on height * width, checked on the header before any pixel
        is decoded; so is `MAX_SIDE`.

    Returns:
      uint8[H, W, 3].

    Raises:
      ImageError: no such file, not an image, damaged, or over the limit.
    """
    return _read(source, from_pillow, max_pixels)


def read_map(
    source: str | os.PathLike | bytes, *, max_pixels: int = MAX_PIXELS
) -> np.ndarray:
    """Reads a heatmap as datasets store them: one channel of 8 or 16 bits.

    Args:
      source: a path, or the encoded bytes.
      max_pixels: as in `read_image`.

    Returns:
      float32[H, W] in [0, 1]: the largest value of the pixel's type is 1.

    Raises:
      ImageError: as `read_image`, or more than one channel.
    """
    return _read(source, _map_from_pillow, max_pixels)


def _map_from_pillow(image: Image.Image, name: str) -> np.ndarray:
    image.load()
    full = {"1": 1, "L": 255, "I;16": 65535, "I;16B": 65535, "I": 65535}
    if image.mode not in full:
        came, remedy = f"mode {image.mode}", "save it as 8-bit or 16-bit grey PNG"
        raise ImageError(name, "a heatmap of one grey channel", came, remedy)
    values = np.asarray(image, np.float32) / np.float32(full[image.mode])
    if not (values.min() >= 0 and values.max() <= 1):
        raise _damaged(name, f"grey values from {values.min()} to {values.max()}")
    return values


def _read(source, convert: _Convert, max_pixels: int) -> np.ndarray:
    if isinstance(source, bytes | bytearray | memoryview):
        data = bytes(source)
        name = f"<{len(data)} bytes>"
        _check_not_empty(name, len(data))
        return _decode(io.BytesIO(data), name, convert, max_pixels)
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
            _check_not_empty(name, path.stat().st_size)
            return _decode(file, name, convert, max_pixels)
    except PermissionError as error:
        raise ImageError(
            name, "a readable file", "no permission", "check its owner and mode"
        ) from error
    except OSError as error:
        raise ImageError(name, "a readable file", str(error), "check it") from error


def _check_not_empty(name: str, size: int) -> None:
    if size == 0:
        raise ImageError(
            name, "an image file", "zero bytes", "the copy or download was cut: redo it"
        )


def _decode(
    file: IO[bytes], name: str, convert: _Convert, max_pixels: int
) -> np.ndarray:
    """Decodes an open file."""
    # Pillow reports damage as OSError, SyntaxError, struct.error, EOFError and
    # more, according to the format, so the one class is made here.
    try:
        with warnings.catch_warnings():
            # About damaged metadata, and sizes over Pillow's own, lower limit.
            warnings.simplefilter("ignore")
            image = Image.open(file, formats=FORMATS)
    except Image.UnidentifiedImageError as error:
        raise ImageError(
            name,
            f"one of {', '.join(FORMATS)}",
            "a file that none of them opens",
            "check the file, or convert it to PNG",
        ) from error
    except Image.DecompressionBombError as error:
        raise _too_large(name, max_pixels, str(error)) from error
    except Exception as error:
        raise _damaged(name, error) from error
    with image:
        width, height = image.size
        if width * height > max_pixels:
            raise _too_large(name, max_pixels, f"{width} x {height}")
        if max(width, height) > MAX_SIDE:
            expected = f"sides of at most {MAX_SIDE} pixels"
            raise ImageError(name, expected, f"{width} x {height}", "cut it into parts")
        if (
            image.format in ("JPEG", "MPO")
            and (scans := _count_scans(file)) > _MAX_SCANS
        ):
            raise ImageError(
                name,
                f"a JPEG of at most {_MAX_SCANS} scans",
                f"{scans}, which would take hours",
                "save it again",
            )
        if width < 1 or height < 1:
            raise _damaged(name, f"{width} x {height} pixels")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return convert(image, name)
        except ImageError:
            raise
        except Exception as error:
            raise _damaged(name, error) from error


def _count_scans(file: IO[bytes]) -> int:
    """Counts the scans of a JPEG; segments may hold pictures, and films follow its end."""
    file.seek(0)
    data, at, scans = file.read(), 0, 0
    while (found := _MARKER.search(data, at)) and found[0] != b"\xff\xd9":
        at = found.end()
        if found[0] != b"\xff\xd8":  # all but the start have a length
            at += int.from_bytes(data[at : at + 2])
            scans += found[0] == b"\xff\xda"
    return scans


def _too_large(name: str, max_pixels: int, came: str) -> ImageError:
    return ImageError(
        name,
        f"at most {max_pixels / 1e6:g} megapixels",
        came,
        "make it smaller, or raise max_pixels if you trust the file",
    )


def _damaged(name: str, why: object) -> ImageError:
    return ImageError(
        name,
        "a whole image",
        f"a damaged one ({str(why) or type(why).__name__})",
        "make or download it again",
    )


def from_pillow(image: Image.Image, name: str = "a Pillow image") -> np.ndarray:
    """What `read_image` does after decoding, for an image of Pillow's.

    Args:
      image: of any mode.
      name: to call it by in an error.

    Returns:
      uint8[H, W, 3], upright, transparency over white.

    Raises:
      ImageError: grey values outside their range.
    """
    image.load()  # TIFF turns itself upright here, and forgets its orientation
    orientation = _orientation(image)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        image = _to_8bit(image, name)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, _WHITE), rgba)
    image = image.convert("RGB")
    if orientation is not None:
        image = image.transpose(orientation)
    return np.array(image)


def _orientation(image: Image.Image) -> Image.Transpose | None:
    try:
        value = image.getexif().get(_ORIENTATION)
    except Exception:  # noqa: BLE001  damaged metadata does not spoil the pixels
        return None
    flips = Image.Transpose
    return {
        2: flips.FLIP_LEFT_RIGHT,
        3: flips.ROTATE_180,
        4: flips.FLIP_TOP_BOTTOM,
        5: flips.TRANSPOSE,
        6: flips.ROTATE_270,
        7: flips.TRANSVERSE,
        8: flips.ROTATE_90,
    }.get(value or 1)


def _to_8bit(image: Image.Image, name: str) -> Image.Image:
    """Grey of more than 8 bits -> L, or LA where one value means transparent."""
    values = np.asarray(image)
    # Integer greys are 16-bit (PNG, TIFF, PGM); float ones have no fixed range, and
    # [0, 1] is the one that can be told apart. numpy's comparisons refuse NaN.
    full = 1.0 if image.mode == "F" else 65535
    if not (values.min() >= 0 and values.max() <= full):
        raise ImageError(
            name,
            f"grey values in [0, {full:g}]",
            f"[{values.min():g}, {values.max():g}]",
            "save it as 8-bit or 16-bit PNG",
        )
    grey = Image.fromarray(np.rint(values * np.float32(255 / full)).astype(np.uint8))
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        alpha = np.where(values == transparent, 0, 255).astype(np.uint8)
        grey.putalpha(Image.fromarray(alpha))
    return grey


def resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes bilinearly (antialiased when shrinking), the aspect not kept.

    Args:
      image: uint8[H, W, 3] picture, or float[H, W] map.
      size: (height, width) wanted.

    Returns:
      uint8[height, width, 3] or float32[height, width]; a map's values stay within
      its own minimum and maximum.
    """
    height, width = size
    if image.shape[:2] == (height, width):
        return image if image.dtype == np.uint8 else image.astype(np.float32)
    if image.dtype != np.uint8:
        image = image.astype(np.float32)
    resized = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
    out = np.asarray(resized)
    return out if out.dtype == np.uint8 else out.clip(image.min(), image.max())


def write_heatmap(path: str | os.PathLike | IO[bytes], heatmap: np.ndarray) -> None:
    """Writes float[H, W] in [0, 1] as a 16-bit grey PNG, 65535 = 1."""
    if heatmap.ndim != 2 or not (heatmap.min() >= 0 and heatmap.max() <= 1):
        raise ValueError(
            f"{path}: expected a heatmap [H, W] with values in [0, 1], got shape "
            f"{heatmap.shape} in [{heatmap.min()}, {heatmap.max()}]"
        )
    grey = np.rint(heatmap * np.float32(65535)).astype(np.uint16)
    # Level 2 takes less than half the time of the default, for 11 % larger files.
    Image.fromarray(grey).save(path, "PNG", compress_level=2)


def read_heatmap(path: str | os.PathLike) -> np.ndarray:
    """Reads what `write_heatmap` wrote: float32[H, W] in [0, 1]."""
    with Image.open(path, formats=["PNG"]) as image:
        if not image.mode.startswith("I"):
            raise ImageError(
                str(path), "a 16-bit grey PNG", f"mode {image.mode}", "check the path"
            )
        return np.asarray(image, np.float32) / 65535


@functools.cache
def colormap() -> np.ndarray:
    """A perceptual colour scale, violet over red to pale yellow.

    A path through OKLCH (Ottosson, "A perceptual color space for image processing",
    2020; the matrices are from there) on which lightness rises evenly, so that equal
    differences of a heatmap look equal, in grey print too.

    Returns:
      uint8[256, 3]: sRGB for heatmap values 0 to 1.
    """
    t = np.linspace(0, 1, 256)
    lightness = 0.30 + 0.64 * t
    hue = np.deg2rad(300 + 165 * t)
    # As strong as sRGB can show without clipping, which would bend the path; around
    # red it holds more.
    chroma = 0.15 + 0.05 * np.exp(-(((t - 0.42) / 0.18) ** 2))
    lab = np.stack([lightness, chroma * np.cos(hue), chroma * np.sin(hue)], -1)
    lms = lab @ np.array(
        [
            [1.0, 1.0, 1.0],
            [0.3963377774, -0.1055613458, -0.0894841775],
            [0.2158037573, -0.0638541728, -1.2914855480],
        ]
    )
    linear = lms**3 @ np.array(
        [
            [4.0767416621, -1.2684380046, -0.0041960863],
            [-3.3077115913, 2.6097574011, -0.7034186147],
            [0.2309699292, -0.3413193965, 1.7076147010],
        ]
    )
    linear = linear.clip(0, 1)
    srgb = np.where(
        linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055
    )
    return np.rint(srgb * 255).astype(np.uint8)


def overlay(
    image: np.ndarray, heatmap: np.ndarray, *, opacity: float = 0.8
) -> np.ndarray:
    """Lays a heatmap over its image: the stronger, the less of the image is seen.

    Args:
      image: uint8[H, W, 3].
      heatmap: float[h, w] in [0, 1], of any size.
      opacity: of the colour where the heatmap is at its strongest.

    Returns:
      uint8[H, W, 3], equal to the image where the heatmap is 0.
    """
    values = _to_byte(resize(heatmap, image.shape[:2]))
    # Full from 1/3 on: that is a region which one rater of three marked, and it
    # must be seen.
    strength = np.minimum(1, np.arange(256) / 85) * opacity
    alpha = np.rint(255 * strength).astype(np.uint8)[values]
    blended = Image.composite(
        Image.fromarray(colormap()[values]),
        Image.fromarray(image),
        Image.fromarray(alpha),
    )
    return np.asarray(blended)


def _to_byte(heatmap: np.ndarray) -> np.ndarray:
    return np.rint(np.nan_to_num(heatmap).clip(0, 1) * 255).astype(np.uint8)
