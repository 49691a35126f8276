"""An example with its predictions and labels, as reports show it."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from rahf import targets

[_WORDS] = targets.select(targets.FEEDBACK, targets.Kind.WORDS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class JudgedExample:
    """An image with what a model and people say about it.

    The `true_` fields are None where no label is known.

    Attributes:
      image: uint8[H, W, 3].
      prompt: as the user wrote it.
      name: the example's name, such as its uid or file name.
      scores: `{target: value in [0, 1]}`, higher is better.
      heatmaps: `{target: float[h, w] in [0, 1]}`, any size, higher is worse.
      words: the probability that each word of `rahf.words.split(prompt)` is
        misaligned; shorter where the prompt was truncated.
      cut: the probability above which a word is marked; defaults to the cut of
        "misaligned_words".
      intervals: (low, high) of each score that is calibrated.
      notes: what else there is to say of the example, one sentence each.
      true_scores: like `scores`.
      true_heatmaps: like `heatmaps`.
      true_words: 1 for each misaligned word, 0 for the others.
    """

    image: np.ndarray
    prompt: str
    name: str = ""
    scores: Mapping[str, float] = dataclasses.field(default_factory=dict)
    heatmaps: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    words: Sequence[float] = ()
    cut: float = _WORDS.cut
    intervals: Mapping[str, tuple[float, float]] = dataclasses.field(
        default_factory=dict
    )
    notes: Sequence[str] = ()
    true_scores: Mapping[str, float] | None = None
    true_heatmaps: Mapping[str, np.ndarray] | None = None
    true_words: Sequence[int] | None = None
