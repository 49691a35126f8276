"""The listed images as browsers get them: upright, scaled, without metadata."""

import functools
import io
import pathlib

from PIL import Image

from rahf import images
from rahf.annotation import task_files


class PageImages:
    """Encodes images for pages; its methods may be called from any thread.

    Args:
      folder: the folder of images, which no image may leave.
    """

    def __init__(self, folder: pathlib.Path):
        self._folder = folder.resolve()
        self._is_plain = functools.lru_cache(maxsize=None)(self._check_plain)
        #: (name, side in pixels) -> (encoded image, its media type), the longer side at
        #: most `side`. Raises images.ImageError if the file is damaged.
        self.encode = functools.lru_cache(maxsize=64)(self._encode)

    def _check_plain(self, name: str) -> bool:
        """Whether a file may be sent as it is; that it can be decoded is checked."""
        path = task_files.find_image(self._folder, name)
        images.read_image(path)
        return images.is_plain(path.read_bytes())

    def _encode(self, name: str, side: int) -> tuple[bytes, str]:
        path = task_files.find_image(self._folder, name)
        if self._is_plain(name) and max(images.read_size(path)) <= side:
            data = images.without_metadata(path.read_bytes())
            return data, "image/png" if data.startswith(b"\x89PNG") else "image/jpeg"
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
