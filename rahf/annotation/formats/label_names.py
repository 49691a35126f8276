"""What the labels of another tool's project mean."""

import dataclasses
from collections.abc import Mapping

from rahf.datasets.ratings.consolidation import POINTS, SCORE_FIELDS, WORDS

IGNORE = "ignore"
# Label -> field, where the user says nothing else.
_POINTS = {"implausible": "implausible_points", "misaligned": "misaligned_points"}
_POINTS |= {field: field for field in POINTS}
_WORDS = {"misaligned": WORDS, WORDS: WORDS}


@dataclasses.dataclass(frozen=True)
class LabelNames:
    """The meaning of labels.

    Attributes:
      given: label or control -> a field of a raters' file, the name of a score, or
        "ignore"; the others mean what they are called.

    Raises:
      ValueError: there is no such field.
    """

    given: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        fields = [*POINTS, WORDS, *SCORE_FIELDS, IGNORE]
        for label, field in self.given.items():
            if field not in fields:
                raise ValueError(
                    f"--labels={label}:{field}: expected one of {', '.join(fields)}"
                )

    def find_points(self, label: str) -> str | None:
        """Returns the field of a label of points, None if it is to be ignored.

        Raises:
          ValueError: nobody has said what it means.
        """
        return self._find(label, _POINTS, POINTS)

    def find_words(self, label: str) -> str | None:
        """Returns the field of a label of words; see `find_points`."""
        return self._find(label, _WORDS, (WORDS,))

    def find_score(self, control: str) -> str | None:
        """Returns the score that a control asks for, None if it asks for none."""
        name = self.given.get(control, control)
        return name if name in SCORE_FIELDS else None

    def is_known(self, label: str) -> bool:
        """Returns whether a label means a field, of points or words."""
        field = self.given.get(label) or _POINTS.get(label) or _WORDS.get(label)
        return field not in (None, IGNORE)

    def _find(self, label, usual: Mapping[str, str], fields) -> str | None:
        field = self.given.get(label) or usual.get(label)
        if field == IGNORE:
            return None
        if field not in fields:
            raise ValueError(
                f"label {label!r}: expected one of {', '.join(usual)}; say what it "
                f"means with --labels={label}:{next(iter(fields))} or {label}:{IGNORE}"
            )
        return field


#: Labels that mean what they are called.
USUAL = LabelNames()
