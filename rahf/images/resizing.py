"""Resizing, bilinear with antialiasing, as training and prediction do it."""

import numpy as np
from PIL import Image

from rahf.images.limits import ImageError


def resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes bilinearly (antialiased when shrinking), to any aspect ratio.

    Args:
      image: picture uint8[H, W, 3], or map float[H, W].
      size: the new height and width.

    Returns:
      uint8[height, width, 3] or float32[height, width]; a map's values stay between
      its minimum and maximum.

    Raises:
      ImageError: the image has no pixels.
    """
    height, width = size
    if not image.size:
        came = f"{image.dtype}{list(image.shape)}"
        raise ImageError("an array", "an image of at least one pixel", came, "check it")
    if image.shape[:2] == (height, width):
        return image if image.dtype == np.uint8 else image.astype(np.float32)
    if image.dtype != np.uint8:
        image = image.astype(np.float32)
    resized = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
    out = np.asarray(resized)
    return out if out.dtype == np.uint8 else out.clip(image.min(), image.max())
