"""The listed images as browsers get them: upright, scaled, without metadata."""

import functools
import io
import pathlib

from PIL import Image

from rahf import images
from rahf.annotation import task_files

# Files over so many bytes are converted, which makes them smaller.
_LARGEST = 16 * 2**20


class PageImages:
    """Encodes images for pages; its methods may be called from any thread.

    Args:
      folder: the folder of images, which no image may leave.
    """

    def __init__(self, folder: pathlib.Path):
        self._folder = folder.resolve()
        self._whole: set[tuple[str, int, int]] = set()  # files that could be decoded
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
        data = path.read_bytes() if state.st_size < _LARGEST else b""
        if data and images.is_image(data[:32]) and max(images.read_size(path)) <= side:
            stamp = name, state.st_size, state.st_mtime_ns
            if stamp not in self._whole:
                images.read_image(data)
                self._whole.add(stamp)
            bare = images.without_metadata(data) if images.is_plain(data) else None
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
