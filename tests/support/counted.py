"""Counts what an action does. A clock would tell how busy the machine is."""

import contextlib
import cProfile
import dataclasses
from collections.abc import Iterator

from PIL import ImageFile


@dataclasses.dataclass
class Work:
    """What was done within `work`.

    Attributes:
      calls: the number of calls of functions, those written in C among them.
      pixels: of each image that Pillow began to decode, its number of pixels.
    """

    calls: int = 0
    pixels: list[int] = dataclasses.field(default_factory=list)


@contextlib.contextmanager
def work() -> Iterator[Work]:
    """Counts the calls of this thread; they are known once the block has ended."""
    done, prepare = Work(), ImageFile.ImageFile.load_prepare

    def counting_prepare(image):
        done.pixels.append(image.width * image.height)
        prepare(image)

    profile = cProfile.Profile()
    ImageFile.ImageFile.load_prepare = counting_prepare
    profile.enable()
    try:
        yield done
    finally:
        profile.disable()
        ImageFile.ImageFile.load_prepare = prepare
        done.calls = sum(entry.callcount for entry in profile.getstats())
