"""Image files that every program shows alike, and what else such files carry."""

import io
import re

from PIL import Image

from rahf.images.formats import FORMATS

_ORIENTATION = 0x0112  # the Exif tag
# What of a PNG is needed to decode it.
_CHUNKS = (b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS")
# What ends a scan of a JPEG: any marker but a stuffed zero, a restart or a fill byte.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")


def is_plain(data: bytes) -> bool:
    """Whether an image file shows the pixels of `read_image` in any program.

    Args:
      data: the encoded image, one that `read_image` accepts.

    Returns:
      True for a JPEG or PNG of 8-bit RGB without transparency, Exif rotation or
      further frames.
    """
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        return (
            image.format in ("JPEG", "PNG")
            and image.mode == "RGB"
            and not (image.format == "PNG" and data[24] != 8)  # bits of a channel
            and getattr(image, "n_frames", 1) == 1
            and not image.has_transparency_data
            and _is_upright(image)
        )


def _is_upright(image: Image.Image) -> bool:
    try:
        return image.getexif().get(_ORIENTATION, 1) == 1
    except Exception:  # noqa: BLE001  damaged metadata may trip other readers
        return False


def without_metadata(data: bytes) -> bytes | None:
    """Returns a JPEG or PNG without what is not needed to decode it.

    Generators write their name and settings there; colour profiles, which `read_image`
    ignores, go too, as does whatever lies behind the image. The pixels stay as they are.

    Args:
      data: the encoded image, one that `read_image` accepts.

    Returns:
      The bytes; None if the file is built in an unusual way, so that nothing can be said
      about its parts.
    """
    if data.startswith(b"\x89PNG"):
        parts = _critical_chunks(data)
    else:
        parts = _decoding_segments(data)
    return None if parts is None else b"".join(parts)


def _critical_chunks(data: bytes) -> list[bytes] | None:
    parts, at = [data[:8]], 8
    while at + 12 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        name = data[at + 4 : at + 8]
        if name in _CHUNKS:
            parts.append(data[at:end])
        if name == b"IEND":
            return parts if end <= len(data) else None
        at = end
    return None


def _decoding_segments(data: bytes) -> list[bytes] | None:
    parts, at = [data[:2]], 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        if marker == 0xD9:  # the end of the image
            return [*parts, data[at : at + 2]]
        if marker in (0x00, 0x01) or 0xD0 <= marker <= 0xD8:
            return None
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == 0xDA:  # a scan, until the next marker that is not part of it
            found = _MARKER.search(data, end)
            if found is None:
                return None
            end = found.start()
        if _is_needed(marker, data[at:end]):
            parts.append(data[at:end])
        at = end
    return [*parts, data[at:]] if data[at:] == b"\xff\xd9" else None


def _is_needed(marker: int, segment: bytes) -> bool:
    if marker == 0xE0:
        return segment[4:9] == b"JFIF\0" and len(segment) == 18  # without a thumbnail
    if marker == 0xEE:
        return segment[4:9] == b"Adobe" and len(segment) == 16
    return not (0xE0 <= marker <= 0xEF or marker == 0xFE)
