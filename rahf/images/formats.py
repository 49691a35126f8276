"""Recognises image files by their first bytes, not by their names."""

import os
import re

# Decoders that are safe for untrusted files. EPS is excluded because it starts
# Ghostscript, and TGA because it has no signature, so that noise would "decode".
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM")

# Signatures of the formats; they do not match, say, "P6 is a text".
_SIGNATURE = re.compile(
    rb"\x89PNG\r\n\x1a\n|\xff\xd8\xff|GIF8[79]a|RIFF.{4}WEBP"
    rb"|BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0|II[*+]\0|MM\0[*+]"
    rb"|.{4}ftyp(?:.{4}){0,5}avi[fs]|\xff\x4f\xff\x51|\0\0\0\x0cjP  \r\n\x87\n"
    rb"|P[1-6fF]\s+[#\d]",
    re.DOTALL,
)


def is_image(source: str | os.PathLike | bytes) -> bool:
    """Whether a file or bytes begin like an image of one of `FORMATS`.

    Args:
      source: a path, or the first 32 bytes.

    Returns:
      True if the signature matches, though the image may be damaged; False also if the
      file cannot be read.
    """
    if not isinstance(source, bytes):
        try:
            with open(source, "rb") as file:
                source = file.read(32)
        except OSError:
            return False
    return bool(_SIGNATURE.match(source))
