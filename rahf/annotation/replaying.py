"""Simulated raters: a raters' file, answered again over HTTP.

They are to the server what people are: each has a token, takes what it is given, looks at
the picture, marks one thing after the other and answers. The k-th of them to get an image
gives the k-th line of the file about it, so that the same answers come out whoever gets
what.
"""

import concurrent.futures
import dataclasses
import hashlib
import pathlib
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from rahf import images, strict_json
from rahf.annotation import client, tokens
from rahf.annotation.page_images import PageImages
from rahf.annotation.pixels import to_pixel
from rahf.datasets.ratings.consolidation import POINTS, WORDS

# The side at which pages ask for images.
_SIDE = 2048
# Seconds between two questions whether there is work again.
_PAUSE = 0.2
# Why an image is skipped for which the file has no further line.
NO_LINE = "the replayed file has no further rating of this image"
#: What a line must have, for an answer is complete.
NEEDED = ("image", "prompt", *POINTS, WORDS, "scores")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReplayOptions:
    """What is replayed, where.

    Attributes:
      ratings: a raters' file, JSON lines with prompts, marks and all four scores.
      images: the folder of its images.
      workdir: the server's, where the simulated raters get tokens.
      url: the server's address.
      raters: how many work at the same time.
      name: their names are this with a number.
    """

    ratings: str
    images: str
    workdir: str
    url: str = "http://127.0.0.1:8000"
    raters: int = 6
    name: str = "replay"


class RatingLines:
    """The lines of a raters' file, to be recognised by picture and prompt.

    Args:
      ratings: the file.
      folder: the folder of its images.

    Attributes:
      count: the number of lines.

    Raises:
      ValueError: a line lacks what an answer needs.
      OSError: a file cannot be read.
    """

    def __init__(self, ratings: str, folder: str):
        root, self._lines = pathlib.Path(folder), {}
        self._lock = threading.Lock()
        pictures, keys = PageImages(root), {}
        with pathlib.Path(ratings).open("rb") as file:
            for number, text in enumerate(file, 1):
                line = _parse(text, f"{ratings}, line {number}")
                image = line["image"]
                if image not in keys:
                    keys[image] = _look(pictures.encode(image, _SIDE)[0])
                key = keys[image], line["prompt"]
                self._lines.setdefault(key, []).append(line)
        self.count = sum(map(len, self._lines.values()))

    def take(self, picture: bytes, prompt: str) -> dict[str, Any] | None:
        """Returns the next line about an image; each is returned once.

        Raises:
          KeyError: the file says nothing about such an image.
        """
        lines = self._lines[_look(picture), prompt]
        with self._lock:
            return lines.pop(0) if lines else None


def replay(
    lines: RatingLines,
    options: ReplayOptions,
    *,
    on_answer: Callable[[], Any] = lambda: None,
) -> tuple[int, int]:
    """Answers until there is nothing left to do.

    Args:
      lines: the answers; they are used up.
      options: where, and by how many.
      on_answer: called after each answer, by any thread.

    Returns:
      The numbers of answers and of skipped images: those about which the file has no
      line, or no further one.

    Raises:
      ValueError: a name has a token already.
      client.RequestRefusedError: the server refused.
      OSError: the server is not there, or a file cannot be read.
    """
    file = tokens.TokenFile(options.workdir)
    names = [f"{options.name}-{number + 1}" for number in range(options.raters)]
    keys = []
    try:
        for name in names:
            keys.append(file.make(name, "rater"))
        with concurrent.futures.ThreadPoolExecutor(len(keys)) as pool:
            work = [pool.submit(_work, lines, options, key, on_answer) for key in keys]
        results = [each.result() for each in work]
    finally:
        for name in names[: len(keys)]:
            file.revoke(name)
    return sum(each[0] for each in results), sum(each[1] for each in results)


def _work(lines, options: ReplayOptions, key: str, on_answer) -> tuple[int, int]:
    rater, answers, skips = client.AnnotationClient(options.url, key), 0, 0
    try:
        while True:
            task, reason = rater.next()
            if task is None:
                if reason == "done":
                    return answers, skips
                time.sleep(_PAUSE)  # others may give back what they hold
                continue
            try:
                line = lines.take(rater.image(task), task["prompt"])
            except KeyError:
                line = None
            if line is None:
                rater.send(task["id"], [client.new_event("skip", reason=NO_LINE)])
                skips += 1
                continue
            for event in _events(line, task["image"]):
                rater.send(task["id"], [event])
            answers += 1
            on_answer()
    finally:
        rater.close()


def _events(line: Mapping[str, Any], image: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What a page sends: a draft after each mark, then the answer."""
    label: dict[str, Any] = {WORDS: list(line[WORDS])}
    size, events = (image["width"], image["height"]), []
    for name in POINTS:
        label[name] = []
        for point in line[name]:
            place = [to_pixel(*pair) for pair in zip(point, size, strict=True)]
            label[name] = [*label[name], place]
            events.append(client.new_event("draft", label=dict(label)))
    label["scores"] = line["scores"]
    label["nothing_wrong"] = not any(label[name] for name in (*POINTS, WORDS))
    label["comment"] = line.get("notes", "")
    seconds = line.get("seconds", 0.0)
    return [*events, client.new_event("answer", label=label, seconds=seconds)]


def _look(picture: bytes) -> str:
    pixels = images.read_image(picture)
    return hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()


def _parse(text: bytes, where: str) -> dict[str, Any]:
    try:
        line = strict_json.loads(text.decode())
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    if not isinstance(line, dict) or any(line.get(name) is None for name in NEEDED):
        raise ValueError(f"{where}: expected an object with {', '.join(NEEDED)}")
    return line
