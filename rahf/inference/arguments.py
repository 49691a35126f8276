"""The arguments of `Predictor.predict` -> a list of images and one of prompts."""

import operator
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import IO, Any

import numpy as np
from PIL import Image

from rahf import images as images_lib
from rahf.images import ImageError

ImageLike = np.ndarray | Image.Image | bytes | str | os.PathLike | IO[bytes]

_ACCEPTED = (
    "a path, encoded bytes, an open binary file, a Pillow image, or an array [H, W], "
    "[H, W, 3] or [H, W, 4] of uint8, or of floats in [0, 1]"
)
_URL = re.compile(r"[A-Za-z][\w+.-]*://")


def list_images(images: Any) -> list[Any]:
    """Returns the images as a list; a single image becomes a list of one.

    Args:
      images: an `ImageLike`, or any iterable of them, such as a generator or an array
        [B, H, W, C]. They are read later, one batch at a time.

    Raises:
      ValueError: it is neither.
    """
    single = str | bytes | bytearray | memoryview | os.PathLike | Image.Image
    if isinstance(images, single) or hasattr(images, "read"):
        return [images]
    if hasattr(images, "__array__") and np.ndim(images) < 4:
        return [images]
    if isinstance(images, Mapping | set) or not isinstance(images, Iterable):
        raise ValueError(  # noqa: TRY004  predict raises one kind of error
            f"images: expected a list of images, each {_ACCEPTED}; got "
            f"{_describe(images)}"
        )
    return list(images)


def list_prompts(prompts: Any, count: int) -> list[str]:
    """Returns a prompt for each of `count` images.

    Args:
      prompts: one text for all images, or an iterable with one for each.
      count: the number of images.

    Raises:
      ValueError: the numbers differ, or a prompt is not text.
    """
    if isinstance(prompts, str):
        prompts = [prompts] * count
    elif isinstance(prompts, Iterable) and not isinstance(
        prompts, bytes | Mapping | set
    ):
        prompts = list(prompts)
    else:
        raise ValueError(  # noqa: TRY004  predict raises one kind of error
            "prompts: expected one text for all images, or a list with one for each; "
            f"got {_describe(prompts)}"
        )
    if len(prompts) != count:
        raise ValueError(
            f"expected a prompt for each image, got {count} images and "
            f"{len(prompts)} prompts; a single text (not in a list) serves all images"
        )
    for i, prompt in enumerate(prompts):
        if not isinstance(prompt, str):
            raise ValueError(  # noqa: TRY004  predict raises one kind of error
                f"prompts[{i}]: expected text, got {_describe(prompt)}"
            )
        try:
            prompt.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"prompts[{i}]: expected Unicode text, got a lone surrogate "
                f"{prompt[error.start]!a} as character {error.start}"
            ) from None
    return prompts


def check_batch_size(batch_size: Any) -> int:
    """Returns the batch size; raises ValueError unless it is an integer >= 1."""
    try:
        number = operator.index(batch_size)
    except TypeError:
        number = 0
    if number < 1 or isinstance(batch_size, bool):
        raise ValueError(
            f"batch_size: expected a whole number of at least 1, got {batch_size!r:.60}"
        )
    return number


def read_picture(image: Any, name: str) -> np.ndarray:
    """Reads one image.

    Args:
      image: an `ImageLike`. Pixels become 8-bit RGB, transparency over white.
      name: the image's name in error messages, such as "images[3]".

    Returns:
      uint8[H, W, 3].

    Raises:
      ImageError: it cannot be read, or is not an `ImageLike`.
    """
    if isinstance(image, Image.Image):
        return images_lib.from_pillow(image, f"{name}, a Pillow image")
    if hasattr(image, "__array__"):
        return _from_array(np.asarray(image), name)
    if hasattr(image, "read"):
        image = _read_file(image, name)
    elif isinstance(image, str) and _URL.match(image):
        raise ImageError(
            name, "a path", f"the URL {image}", "download it and give the file"
        )
    elif isinstance(image, bytearray | memoryview):
        image = bytes(image)
    elif not isinstance(image, str | os.PathLike | bytes):
        raise ImageError(name, _ACCEPTED, _describe(image), "convert it")
    try:
        return images_lib.read_image(image)
    except ImageError as error:
        error.args = (f"{name}: {error}",)
        raise


def _read_file(file: Any, name: str) -> bytes:
    # From the start, as Pillow does: a BytesIO just written to is at its end.
    if getattr(file, "seekable", lambda: False)():
        file.seek(0)
    data = file.read()
    if not isinstance(data, bytes):
        remedy = "open it with mode 'rb'"
        raise ImageError(name, "a file of bytes", _describe(data), remedy)
    return data


def _from_array(array: np.ndarray, name: str) -> np.ndarray:
    got = f"{array.dtype}{list(array.shape)}"
    shape = array.shape
    if array.ndim == 3 and shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        remedy = "for several images, give a list of such arrays"
        if array.ndim == 3 and shape[0] in (1, 3, 4):
            remedy = "channels come last: use transpose(1, 2, 0)"
        raise ImageError(name, _ACCEPTED, got, remedy)
    if array.size == 0:
        raise ImageError(name, "at least one pixel", got, "leave it out")
    if np.issubdtype(array.dtype, np.floating) or array.dtype.name == "bfloat16":
        array = array.astype(np.float32)
        low, high = array.min(), array.max()  # NaN is neither
        if not (low >= 0 and high <= 1):
            raise ImageError(
                name,
                "floats in [0, 1]",
                f"{got} from {low:g} to {high:g}",
                "rescale it, or convert it to uint8 from 0 to 255",
            )
        array = np.rint(array * 255).astype(np.uint8)
    if array.dtype != np.uint8:
        remedy = "convert it to uint8 from 0 to 255"
        raise ImageError(name, _ACCEPTED, got, remedy)
    if array.ndim == 3 and array.shape[2] == 3:
        return array
    picture = Image.fromarray(np.ascontiguousarray(array))
    return images_lib.from_pillow(picture, name)


def _describe(value: Any) -> str:
    """Describes a value for an error message: its type, and its value if that helps."""
    if value is None or isinstance(value, bool | int | float | Sequence):
        return f"{type(value).__name__} {value!r:.60}" if value is not None else "None"
    return f"a {type(value).__name__}"
