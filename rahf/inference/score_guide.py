"""What the predicted numbers mean: the epilog of `predict --help`."""

from rahf import targets
from rahf.targets import Kind

_SCORES = """\
Scores are in [0, 1], higher is better: (the raters' mean answer on a scale of 1 to
5, minus 1) / 4, so 0.5 is "neither good nor bad". Accept at or above the threshold:"""

_HEATMAPS = """\
Heatmaps are in [0, 1], higher is worse: about the share of raters who would mark
the place. Treat a place as flawed at or above the threshold:"""

_WORDS = """\
Each word has a probability in [0, 1] of being misaligned, and is called misaligned
above the threshold:"""

COMPARE = """\
All scores share one scale. Those that judge the image alone (plausibility,
aesthetics) are comparable across prompts. Those that judge it against its prompt
(alignment, overall) are most reliable between images of the same prompt, since a
long or difficult prompt is harder to meet. Thresholds are starting points: choose
yours on images you have judged yourself. A prompt longer than the model's text
length is cut, and "prompt_truncated" says so. A prediction depends neither on the
other images of its batch nor on the batch size."""


def explain() -> str:
    """Returns a paragraph per kind of target, with their meanings and thresholds."""
    parts = []
    for kind, text in (
        (Kind.SCORE, _SCORES),
        (Kind.HEATMAP, _HEATMAPS),
        (Kind.WORDS, _WORDS),
    ):
        rows = targets.select(targets.FEEDBACK, kind)
        lines = [
            f"  {row.name:<17} {row.description}; threshold {row.threshold:g}"
            for row in rows
            if row.threshold is not None
        ]
        parts.append("\n".join([text, *lines]))
    return "\n\n".join([*parts, COMPARE])
