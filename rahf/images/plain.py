"""Image files that every program shows alike, and what else such files carry."""

import io

from PIL import Image

from rahf.images.formats import FORMATS

_ORIENTATION = 0x0112  # the Exif tag
# Segments of a JPEG to keep: APP0 (JFIF) and APP14 (Adobe) tell how to decode it; the
# other APPn (0xE0 to 0xEF) and comments (0xFE) do not.
_DECODING = (0xE0, 0xEE)


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
            and getattr(image, "n_frames", 1) == 1
            and not image.has_transparency_data
            and _is_upright(image)
        )


def _is_upright(image: Image.Image) -> bool:
    try:
        return image.getexif().get(_ORIENTATION, 1) == 1
    except Exception:  # noqa: BLE001  damaged metadata may trip other readers
        return False


def without_metadata(data: bytes) -> bytes:
    """Returns a JPEG or PNG without what is not needed to decode it.

    Generators write their name and settings there; colour profiles, which `read_image`
    ignores, go too. The pixels stay as they are.

    Args:
      data: the encoded image, one that `read_image` accepts.
    """
    if data.startswith(b"\x89PNG"):
        return b"".join([data[:8], *_critical_chunks(data)])
    return b"".join([data[:2], *_decoding_segments(data)])


def _critical_chunks(data: bytes):
    """The chunks whose name begins with a capital, and `tRNS`."""
    at = 8
    while at + 8 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        name = data[at + 4 : at + 8]
        if name[:1].isupper() or name == b"tRNS":
            yield data[at:end]
        if name == b"IEND":
            return
        at = end


def _decoding_segments(data: bytes):
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        if data[at + 1] == 0xFF:  # a fill byte
            at += 1
            continue
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        marker = data[at + 1]
        if marker in _DECODING or not (0xE0 <= marker <= 0xEF or marker == 0xFE):
            yield data[at:end]
        at = end
    yield data[at:]
