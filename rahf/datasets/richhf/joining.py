"""Joins a label, an image and a prompt into a record, and names their problems."""

import dataclasses
import io
from typing import Any

import numpy as np
from PIL import Image

from rahf import images, words
from rahf.datasets.richhf.labels import MAPS, SCORES, WORDS, Label

#: Side of the published maps in pixels.
MAP_SIDE = 512

#: What can be wrong with a record.
PROBLEMS = {
    "malformed_record": "not a tf.train.Example with a filename",
    "duplicate_uid": "an earlier record has this uid",
    "missing_image": "no row of Pick-a-Pic has this uid",
    "missing_prompt": "Pick-a-Pic has no caption for it",
    "undecodable_image": "the image does not decode",
    "undecodable_map": f"the map is not a one-channel 8-bit {MAP_SIDE}x{MAP_SIDE} "
    "image",
    "malformed_score": "the score is missing or outside [0, 1]",
    "malformed_words": "the word labels are missing or not 0 and 1",
    "label_length": "there are more or fewer labels than words",
}
#: What to do about problems.
POLICIES = {
    "fail": "write no dataset if there is any problem",
    "mask": "keep the record and mark the unusable label as missing; omit "
    "records without image or prompt",
    "exclude": "omit every record with a problem",
}


@dataclasses.dataclass(frozen=True)
class Problem:
    """One thing that is wrong with one record.

    Attributes:
      split, index, uid: which record.
      kind: a key of `PROBLEMS`.
      field: the field of the record, "" for the whole record.
      detail: an explanation for readers.
    """

    split: str
    index: int
    uid: str
    kind: str
    field: str
    detail: str


@dataclasses.dataclass(frozen=True)
class Picture:
    """What Pick-a-Pic has for a uid: the encoded image and its prompt."""

    image: bytes | None
    prompt: str | None

    @property
    def complete(self) -> bool:
        return bool(self.image) and self.prompt is not None


def preference(picture: Picture) -> tuple:
    """Sorting key for the pictures of one uid: complete ones first, in fixed order."""
    return (not picture.complete, picture.image or b"", picture.prompt or "")


@dataclasses.dataclass(frozen=True)
class Joined:
    """A record ready to be stored, None if it is unusable, and its problems."""

    split: str
    record: dict[str, Any] | None
    problems: tuple[Problem, ...]

    def kept(self, policy: str) -> bool:
        """Whether the policy keeps the record."""
        return self.record is not None and not (policy == "exclude" and self.problems)


def join(label: Label, picture: Picture | None, *, repeated: bool = False) -> Joined:
    """Joins a label with its image.

    Args:
      label: the label from a label file.
      picture: the picture from Pick-a-Pic, None if none was found.
      repeated: whether an earlier record has the same uid.

    Returns:
      The record, with `uid`, `filename`, `image` (encoded as in Pick-a-Pic), `prompt`
      and the usable labels, and the problems.
    """
    problems: list[Problem] = []

    def add(kind: str, field: str = "", detail: str = "") -> None:
        text = detail or PROBLEMS[kind]
        where = (label.split, label.index, label.uid)
        problems.append(Problem(*where, kind, field, text))

    if not label.uid:
        add("malformed_record")
    elif repeated:
        add("duplicate_uid")
    elif picture is None or not picture.image:
        add("missing_image", "image")
    elif not isinstance(picture.prompt, str):
        add("missing_prompt", "prompt")
    else:
        try:
            images.read_image(picture.image)
        except images.ImageError as error:
            add("undecodable_image", "image", str(error))
    if problems or picture is None:
        return Joined(label.split, None, tuple(problems))
    record: dict[str, Any] = {
        "uid": label.uid,
        "filename": label.filename,
        "image": picture.image,
        "prompt": picture.prompt,
    }
    for field in MAPS:
        data = label.maps[field] or b""
        try:
            _check_map(data)
        except images.ImageError as error:
            add("undecodable_map", field, str(error))
        else:
            record[field] = data
    for field in SCORES:
        score = label.scores[field]
        if score is None or not 0 <= score <= 1:
            add("malformed_score", field, f"{PROBLEMS['malformed_score']}: {score}")
        else:
            record[field] = float(score)
    given = (label.words or "").split()
    count = len(words.split(str(picture.prompt)))
    if label.words is None or not set(given) <= {"0", "1"}:
        add("malformed_words", WORDS)
    elif len(given) != count:
        add("label_length", WORDS, f"{len(given)} labels for {count} words")
    else:
        record[WORDS] = np.array(given, np.int8)
    return Joined(label.split, record, tuple(problems))


def _check_map(data: bytes) -> None:
    """Raises ImageError unless `data` is a map as published."""
    name = f"<a map of {len(data)} bytes>"
    expected = f"a one-channel 8-bit image of {MAP_SIDE}x{MAP_SIDE}"
    remedy = "download the label files again"
    try:
        with Image.open(io.BytesIO(data), formats=images.FORMATS) as image:
            width, height = image.size
            if image.mode != "L" or (width, height) != (MAP_SIDE, MAP_SIDE):
                came = f"mode {image.mode} of {width}x{height}"
                raise images.ImageError(name, expected, came, remedy)
            image.load()
    except images.ImageError:
        raise
    except Exception as error:  # Pillow raises many kinds
        came = str(error) or type(error).__name__
        raise images.ImageError(name, expected, came, remedy) from error
