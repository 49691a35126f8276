"""Decodes one encoded image to the model's square; what a decoding process runs.

It imports no JAX, no Arrow and no file systems: such a process starts in a moment.
"""

import contextlib
import ctypes
import hashlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading

import numpy as np

from rahf import images


def decode(
    source: bytes | str, side: int
) -> tuple[np.ndarray, tuple[int, int], str] | str:
    """Decodes and resizes an image.

    Args:
      source: the encoded image, or its path.
      side: the side of the model's square.

    Returns:
      uint8[side, side, 3], the image's own height and width, and the SHA-256 of its
      encoding in hexadecimal; or why it cannot be read.
    """
    try:
        data = images.read_encoded(source) if isinstance(source, str) else source
        # By its path where it has one: messages then name it.
        picture = images.read_image(source if isinstance(source, str) else data)
    except (OSError, ValueError) as error:
        return str(error)
    height, width = picture.shape[:2]
    square = images.resize(picture, (side, side))
    return square, (height, width), hashlib.sha256(data).hexdigest()


def keep_memory() -> None:
    """Keeps freed memory for the next picture, up to 128 MiB.

    glibc gives back at once what a picture took, and the system then clears it anew, page
    by page: of 4.4 CPU-ms for a JPEG of 512 pixels, that was 1.9. Elsewhere this does
    nothing.
    """
    with contextlib.suppress(AttributeError, OSError):
        mallopt = ctypes.CDLL(None).mallopt
        trim_threshold, mmap_threshold = -1, -3  # malloc.h
        mallopt(trim_threshold, 128 << 20)
        mallopt(mmap_threshold, 32 << 20)  # the most that glibc takes


def start_process() -> None:
    """Prepares a process: Ctrl-C is for its parent, and it ends with its parent."""
    keep_memory()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        watch = threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True)
        watch.start()


def _end_with(sentinel: int) -> None:
    multiprocessing.connection.wait([sentinel])
    os._exit(1)  # killed with SIGKILL, the parent could not say so
