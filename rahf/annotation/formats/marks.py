"""One person's marks on one image as another tool has them -> a line of a file."""

import collections
import dataclasses
from collections.abc import Collection
from typing import Any

from rahf.annotation.records import Feedback
from rahf.datasets.ratings.consolidation import POINTS, WORDS

#: The labels that a person was asked for or not; scores are there or not.
FIELDS = (*POINTS, WORDS)


@dataclasses.dataclass(kw_only=True)
class Marks:
    """What was found in one person's answer.

    Attributes:
      points: field -> [x, y] as fractions, for those fields that have any.
      misaligned_words: indices of words.
      scores: name -> answer.
      rater, comment: who, and what else they say; None if that is not given.
      nothing_wrong: they said so.
      guess_shown: they saw a model's guess.
      ignored: what has no place in a raters' file -> how often it appeared.
    """

    points: dict[str, list[list[float]]] = dataclasses.field(
        default_factory=lambda: collections.defaultdict(list)
    )
    misaligned_words: set[int] = dataclasses.field(default_factory=set)
    scores: dict[str, float] = dataclasses.field(default_factory=dict)
    rater: str | None = None
    comment: str | None = None
    nothing_wrong: bool = False
    guess_shown: bool = False
    ignored: collections.Counter = dataclasses.field(
        default_factory=collections.Counter
    )

    @property
    def fields(self) -> set[str]:
        """The labels that were given, or denied."""
        words = {WORDS} if self.misaligned_words else set()
        return set(FIELDS) if self.nothing_wrong else {*self.points, *words}

    def to_row(self, asked: Collection[str]) -> dict[str, Any]:
        """Returns the labels as a line of a raters' file has them.

        Args:
          asked: the labels that all were asked for: where one is missing, nothing was
            found.
        """
        row: dict[str, Any] = {}
        for field in FIELDS:
            if field in asked or field in self.fields:
                listed = sorted(self.misaligned_words)
                row[field] = listed if field == WORDS else self.points.get(field, [])
        if self.scores:
            row["scores"] = self.scores
        if self.guess_shown:
            row["guess_shown"] = True
        if self.comment is not None:
            row["notes"] = self.comment
        return row

    def to_feedback(self, *, prompt: str, width: int, height: int) -> Feedback:
        """Returns the labels in pixels, scores rounded; raises LabelError."""
        points = {
            field: [
                [round(x * width, 3), round(y * height, 3)]
                for x, y in self.points.get(field, [])
            ]
            for field in POINTS
        }
        label = {
            **points,
            WORDS: sorted(self.misaligned_words),
            "scores": {name: round(score) for name, score in self.scores.items()},
        }
        size = {"prompt": prompt, "width": width, "height": height}
        return Feedback.from_json(label, complete=False, **size)
