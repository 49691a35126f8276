"""The table of targets: everything RAHF predicts about an image.

Heads, losses, metrics, the feature converter and the report each have one
``{Kind: function}`` mapping and iterate over this table, so a new score target needs
only one call of `register` (docs/tasks.md).
"""

import dataclasses
import enum
from collections.abc import Iterable, Mapping
from typing import TypeVar

T = TypeVar("T")


class Kind(enum.Enum):
    """The kind of a target, which determines its head, loss and metrics."""

    HEATMAP = "heatmap"  # float32[H, W] in [0, 1], higher is worse
    SCORE = "score"  # float32 in [0, 1], higher is better
    WORDS = "words"  # the prompt, each misaligned word followed by a suffix
    CAPTION = "caption"  # free text; pre-training only
    WORD_PRESENCE = "word_presence"  # the pieces of text in an image; training only
    SOFT_WORDS = "soft_words"  # a teacher's probability of each word; training only
    PREFERENCE = "preference"  # which of two images people prefer, by one score


@dataclasses.dataclass(frozen=True)
class Target:
    """One thing to predict.

    Attributes:
      name: the name in batches, losses, metrics, TensorBoard and the output JSON.
      kind: see `Kind`.
      field: the record field with the label, as RichHF-18K names it.
      prompt: the text before the prompt in the augmented-prompt variant. The score and
        heatmap forms are those of the first author's release.
      description: one line for readers, shown in `--help` and reports.
      threshold: the value that separates acceptable from unacceptable, or None. For
        words, see `cut`.
      compares: the score by which a PREFERENCE compares two images; "" for others.
    """

    name: str
    kind: Kind
    field: str
    prompt: str
    description: str
    threshold: float | None = None
    compares: str = ""

    @property
    def cut(self) -> float:
        """The probability above which a word counts as misaligned.

        The threshold, or else 0.5. A probability equal to it counts as aligned, like a
        tie in the raters' majority vote.
        """
        return 0.5 if self.threshold is None else self.threshold


_TABLE: dict[str, Target] = {}


def register(target: Target) -> Target:
    """Adds a row to the table.

    Args:
      target: the row. Registering an equal row twice has no effect.

    Returns:
      The row.

    Raises:
      ValueError: another row already has this name.
    """
    known = _TABLE.setdefault(target.name, target)
    if known != target:
        raise ValueError(
            f"target {target.name!r} is already registered as {known}; "
            f"choose another name for {target}"
        )
    return target


def get(name: str) -> Target:
    """Returns the row called `name`; raises ValueError if there is none."""
    if name not in _TABLE:
        raise ValueError(f"unknown target {name!r}; known: {', '.join(_TABLE)}")
    return _TABLE[name]


def threshold_of(name: str) -> float | None:
    """Returns the threshold of the row called `name`; None if there is no such row."""
    return _TABLE[name].threshold if name in _TABLE else None


def rows() -> list[Target]:
    """Returns all rows of the table, including users' own."""
    return list(_TABLE.values())


def select(names: Iterable[str], kind: Kind | None = None) -> list[Target]:
    """Returns the rows called `names` in that order, only those of `kind` if given."""
    rows = [get(name) for name in names]
    return [row for row in rows if kind is None or row.kind == kind]


def ordered(by_name: Mapping[str, T]) -> dict[str, T]:
    """Returns a mapping by target name, sorted in the order of the table.

    Names that are not in the table come last, in their original order.
    """
    known = [name for name in _TABLE if name in by_name]
    return {name: by_name[name] for name in dict.fromkeys([*known, *by_name])}


# Scores are (mean of the raters' Likert answers - 1) / 4, so 0.5 is the middle of the
# five-point scale.
for _row in (
    Target(
        name="implausibility",
        kind=Kind.HEATMAP,
        field="artifact_map",
        prompt="<output> HEATMAP: implausibility </output> ",
        description="where the image is broken",
        threshold=0.3,
    ),
    Target(
        name="misalignment",
        kind=Kind.HEATMAP,
        field="misalignment_map",
        prompt="<output> HEATMAP: misalignment </output> ",
        description="where the image contradicts the prompt",
        threshold=0.3,
    ),
    Target(
        name="plausibility",
        kind=Kind.SCORE,
        field="artifact_score",
        prompt="<output> SCORE: plausibility </output> ",
        description="1 = no artifact",
        threshold=0.5,
    ),
    Target(
        name="alignment",
        kind=Kind.SCORE,
        field="misalignment_score",
        prompt="<output> SCORE: alignment </output> ",
        description="1 = the prompt is fully shown",
        threshold=0.5,
    ),
    Target(
        name="aesthetics",
        kind=Kind.SCORE,
        field="aesthetics_score",
        prompt="<output> SCORE: aesthetics </output> ",
        description="1 = pleasing to look at",
        threshold=0.5,
    ),
    Target(
        name="overall",
        kind=Kind.SCORE,
        field="overall_score",
        prompt="<output> SCORE: overall </output> ",
        description="1 = excellent on the whole",
        threshold=0.5,
    ),
    Target(
        name="misaligned_words",
        kind=Kind.WORDS,
        field="prompt_misalignment_label",
        prompt="<output> WORDS: misalignment </output> ",
        description="which words of the prompt are not shown",
        # F1 is highest at half of the highest possible F1 (Lipton et al.,
        # "Optimal Thresholding of Classifiers to Maximize F1 Measure", 2014).
        threshold=0.35,
    ),
):
    register(_row)

#: The seven kinds of feedback in RichHF-18K, in the order of reports.
FEEDBACK = tuple(_TABLE)

register(
    Target(
        name="caption",
        kind=Kind.CAPTION,
        field="prompt",
        prompt="<output> CAPTION </output> ",
        description="the text that goes with the image (pre-training)",
    )
)
register(
    Target(
        name="word_presence",
        kind=Kind.WORD_PRESENCE,
        field="prompt_misalignment_label",
        prompt="<output> WORDS: misalignment </output> ",
        description="which pieces of text the image shows, prompt unseen (training only)",
    )
)
register(
    Target(
        name="soft_words",
        kind=Kind.SOFT_WORDS,
        field="prompt_misalignment_chance",
        prompt="<output> WORDS: misalignment </output> ",
        description="how probably the image does not show each word, by a teacher "
        "(training only)",
    )
)


def preference_of(score: str) -> str:
    """Returns the name of the target by which a score learns from choices."""
    return f"{score}_preference"


#: The scores that can learn from people's choices between two images.
COMPARED = tuple(row.name for row in select(FEEDBACK, Kind.SCORE))

for _name in COMPARED:
    register(
        Target(
            name=preference_of(_name),
            kind=Kind.PREFERENCE,
            field=preference_of(_name),
            prompt=get(_name).prompt,
            description=f"which of two images people prefer, learned by {_name}",
            compares=_name,
        )
    )
