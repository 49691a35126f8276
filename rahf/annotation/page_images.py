"""The listed images as browsers get them: upright, scaled, without metadata."""

import functools
import io
import math
import pathlib

from PIL import Image

from rahf import images
from rahf.annotation import task_files

# Files over so many bytes are converted, which makes them smaller.
_LARGEST = 16 * 2**20


def _side(path: pathlib.Path) -> float:
    """Returns the longest side of a file that may be sent as it is, or infinity; that it
    can be decoded is checked."""
    size = images.read_size(path)
    data = path.read_bytes()
    if len(data) > _LARGEST or not images.is_plain(data):
        return math.inf
    try:
        with Image.open(io.BytesIO(data), formats=images.FORMATS) as image:
            # A JPEG at an eighth: all of its data are read, in half of the time.
            image.draft("RGB", (max(1, size[0] // 8), max(1, size[1] // 8)))
            image.load()
    except (OSError, SyntaxError, ValueError):
        images.read_image(path)  # which says what is wrong
    return max(size)


class PageImages:
    """Encodes images for pages; its methods may be called from any thread.

    Args:
      folder: the folder of images, which no image may leave.
    """

    def __init__(self, folder: pathlib.Path):
        self._folder = folder.resolve()
        # Of files that were looked at: their longest side, infinite if not plain.
        self._sides: dict[tuple[str, int, int], float] = {}
        self._convert = functools.lru_cache(maxsize=8)(self._encode)

    def encode(self, name: str, side: int) -> tuple[bytes, str]:
        """Returns an image, encoded, and its media type.

        Args:
          name: its path in the folder.
          side: the longest side in pixels.

        Raises:
          images.ImageError: the file is damaged.
        """
        path = task_files.find_image(self._folder, name)
        if not path.is_file():
            images.read_image(path)  # which says what is wrong
        state = path.stat()
        stamp = name, state.st_size, state.st_mtime_ns
        if stamp not in self._sides:
            self._sides[stamp] = _side(path)
        if self._sides[stamp] <= side:
            bare = images.without_metadata(path.read_bytes())
            if bare is not None:
                kind = "png" if bare.startswith(b"\x89PNG") else "jpeg"
                return bare, f"image/{kind}"
        return self._convert(name, side, state.st_size, state.st_mtime_ns)

    def _encode(self, name: str, side: int, *stamp: int) -> tuple[bytes, str]:
        del stamp  # of the file, for the cache
        path = task_files.find_image(self._folder, name)
        pixels = images.read_image(path)
        share = min(1, side / max(pixels.shape[:2]))
        height, width = (max(1, round(share * n)) for n in pixels.shape[:2])
        picture = Image.fromarray(images.resize(pixels, (height, width)))
        file, large = io.BytesIO(), share < 1
        if large:  # it is not the original anyway, and JPEG is ten times as fast
            picture.save(file, "JPEG", quality=92, subsampling=0)
        else:
            picture.save(file, "PNG", compress_level=1)
        return file.getvalue(), "image/jpeg" if large else "image/png"
