"""What is asked of raters and what they answer, in memory.

Points are in pixels of the image as people see it: upright, at its natural size, from
the left and the top. Files have fractions instead; `Answer.row` converts.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from rahf import words
from rahf.datasets.ratings.consolidation import (
    LIKERT_POINTS,
    POINTS,
    SCORE_FIELDS,
    WORDS,
)

#: Limits of one label, against programs that send nonsense.
MAX_POINTS, MAX_COMMENT = 200, 2000


class LabelError(ValueError):
    """A label that is not acceptable; `field` names the wrong part."""

    def __init__(self, field: str, expected: str):
        self.field = field
        super().__init__(f"{field}: expected {expected}")


def describe_words(prompt: str) -> list[dict[str, Any]]:
    """Returns a prompt's words as pages get them: their index, text, and where they
    start and end in characters."""
    return [
        {"id": number, "text": prompt[start:end], "start": start, "end": end}
        for number, (start, end) in enumerate(words.spans(prompt))
    ]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Feedback:
    """One person's feedback on one image, complete or not.

    Attributes:
      implausible_points, misaligned_points: (x, y) in pixels.
      misaligned_words: indices of words, as in `rahf.words.split`, ascending.
      scores: name -> whole number from 1 (worst) to 5 (best).
      nothing_wrong: the rater said so, rather than leaving out the marks.
      comment: any text.
    """

    implausible_points: tuple[tuple[float, float], ...] = ()
    misaligned_points: tuple[tuple[float, float], ...] = ()
    misaligned_words: tuple[int, ...] = ()
    scores: Mapping[str, int] = dataclasses.field(default_factory=dict)
    nothing_wrong: bool = False
    comment: str = ""

    @classmethod
    def from_json(
        cls, value: Any, *, prompt: str, width: int, height: int, complete: bool
    ) -> "Feedback":
        """Checks a label that came from outside.

        Args:
          value: the decoded JSON.
          prompt: the image's prompt.
          width, height: the image's natural size in pixels.
          complete: whether it is an answer, which needs all scores and either marks
            or `nothing_wrong`, or a draft, which may lack anything.

        Raises:
          LabelError: names the wrong field and what was expected.
        """
        names = {field.name for field in dataclasses.fields(cls)}
        if not isinstance(value, dict) or not value.keys() <= names:
            raise LabelError("label", f"an object with some of {sorted(names)}")
        points = {name: _points(value, name, width, height) for name in POINTS}
        label = cls(
            **points,
            misaligned_words=_words(value, len(words.split(prompt))),
            scores=_scores(value),
            nothing_wrong=_typed(value, "nothing_wrong", bool, False, "true or false"),
            comment=_comment(value),
        )
        if complete:
            label.check_complete()
        return label

    @property
    def has_marks(self) -> bool:
        """Whether anything is marked, a point or a word."""
        marks = (self.implausible_points, self.misaligned_points, self.misaligned_words)
        return any(marks)

    def check_complete(self) -> None:
        """Raises LabelError if this draft is not an answer yet."""
        if absent := SCORE_FIELDS.keys() - self.scores.keys():
            raise LabelError("scores", f"an answer for {', '.join(sorted(absent))}")
        if self.has_marks == self.nothing_wrong:
            raise LabelError("nothing_wrong", "either marks or 'nothing is wrong'")

    def to_json(self) -> dict[str, Any]:
        """Returns the label as `from_json` reads it."""
        return vars(self) | {"scores": dict(self.scores)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class RatingTask:
    """One image to be labelled.

    Attributes:
      image: its path in the folder of images, the name that answers carry.
      prompt: its prompt, "" if there is none.
      split: train, dev or test, None to leave it to consolidation.
      gold: the known answer, if raters are measured by this image.
      guess: what a model thinks, complete or not; raters see it only if asked to.
    """

    image: str
    prompt: str = ""
    split: str | None = None
    gold: Feedback | None = None
    guess: Feedback | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answer:
    """What one rater said about one image.

    Attributes:
      image, prompt, split: as in `RatingTask`.
      rater: the rater's name.
      label: the feedback; None if the image was skipped.
      width, height: the image's natural size in pixels.
      seconds: the time spent on the image.
      skipped: the reason for skipping, None if the image was answered.
      guess_shown: whether the rater saw a model's guess.
    """

    image: str
    prompt: str
    rater: str
    label: Feedback | None
    width: int
    height: int
    seconds: float = 0.0
    skipped: str | None = None
    split: str | None = None
    guess_shown: bool = False

    def row(self) -> dict[str, Any]:
        """Returns the line of a raters' file (docs/annotate.md), without nulls.

        Raises:
          ValueError: the image was skipped, which such a file cannot say.
        """
        if self.label is None:
            raise ValueError(f"{self.image}: {self.rater} skipped it")
        row: dict[str, Any] = {
            "image": self.image,
            "prompt": self.prompt,
            "rater": self.rater,
        }
        for name in POINTS:
            row[name] = [
                [x / self.width, y / self.height] for x, y in getattr(self.label, name)
            ]
        row[WORDS] = list(self.label.misaligned_words)
        row["scores"] = dict(self.label.scores)
        row["seconds"] = self.seconds
        if self.split is not None:
            row["split"] = self.split
        if self.guess_shown:
            row["guess_shown"] = True
        if self.label.comment:
            row["notes"] = self.label.comment
        return row


def _typed(value: dict, name: str, kind: Any, default: Any, expected: str) -> Any:
    found = value.get(name, default)
    if not isinstance(found, kind):
        raise LabelError(name, expected)
    return found


def _points(value: dict, name: str, width: int, height: int) -> tuple:
    wanted = f"at most {MAX_POINTS} [x, y] within {width} x {height} pixels"
    listed = _typed(value, name, list | tuple, (), wanted)
    if len(listed) > MAX_POINTS:
        raise LabelError(name, wanted)
    for point in listed:
        if not isinstance(point, list | tuple) or len(point) != 2:
            raise LabelError(name, wanted)
        for number, limit in zip(point, (width, height), strict=True):
            if isinstance(number, bool) or not isinstance(number, int | float):
                raise LabelError(name, wanted)
            if not 0 <= number <= limit:  # as it is for NaN
                raise LabelError(name, wanted)
    return tuple((float(x), float(y)) for x, y in listed)


def _words(value: dict, count: int) -> tuple[int, ...]:
    listed = _typed(value, WORDS, list | tuple, (), "a list of ids of words")
    if any(type(index) is not int or not 0 <= index < count for index in listed):
        raise LabelError(WORDS, f"ids of words from 0 to {count - 1}")
    if len(set(listed)) != len(listed):
        raise LabelError(WORDS, "each word once")
    return tuple(sorted(listed))


def _scores(value: dict) -> dict[str, int]:
    scores = _typed(value, "scores", dict, {}, "an object")
    wanted = f"whole numbers from 1 to {LIKERT_POINTS} for some of "
    for name, score in scores.items():
        right = type(score) is int and 1 <= score <= LIKERT_POINTS
        if name not in SCORE_FIELDS or not right:
            raise LabelError("scores", wanted + ", ".join(SCORE_FIELDS))
    return {name: scores[name] for name in SCORE_FIELDS if name in scores}


def _comment(value: dict) -> str:
    comment = _typed(value, "comment", str, "", "text")
    try:
        comment.encode()
    except UnicodeEncodeError:
        raise LabelError("comment", "text without lone surrogates") from None
    if len(comment) > MAX_COMMENT:
        raise LabelError("comment", f"at most {MAX_COMMENT} characters")
    return comment
