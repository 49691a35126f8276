"""How fast raters work, from the times that their pages measured."""

import statistics
import time
from typing import Any

from rahf.annotation.store import AnswerStore

# The newest answers of a rater that count: people become faster.
_RECENT = 100


def rater_pace(store: AnswerStore, rater: str) -> dict[str, float | None]:
    """Returns a rater's pace over the newest hundred answers.

    Returns:
      `median_seconds`, the time of an image, and `per_hour`, answers in an hour of such
      work: pauses do not count. Both None before the first answer.
    """
    rows = store.read(
        "SELECT (SELECT seconds FROM events WHERE assignment = a.id AND kind = 'answer' "
        "ORDER BY number DESC LIMIT 1) AS seconds FROM assignments a WHERE rater = ? "
        "AND state = 'answered' ORDER BY number DESC LIMIT ?",
        *(rater, _RECENT),
    )
    seconds = [row["seconds"] for row in rows]
    total = sum(seconds)
    return {
        "median_seconds": statistics.median(seconds) if seconds else None,
        # A person needs a tenth of a second at the least.
        "per_hour": 3600 * len(seconds) / total if total > 0.1 * len(seconds) else None,
    }


def answers_of_last_hour(store: AnswerStore, now: float | None = None) -> int:
    """Returns how many images were answered by all raters in the last hour.

    An answer that was changed counts once, when it was given first.
    """
    now = time.time() if now is None else now
    [[count]] = store.read(
        "SELECT COUNT(*) FROM (SELECT MIN(at) AS first FROM events WHERE "
        "kind = 'answer' GROUP BY assignment) WHERE first > ?",
        now - 3600,
    )
    return count


def rounded(pace: dict[str, float | None]) -> dict[str, Any]:
    """Returns a pace with a digit after the point, as pages show it."""
    return {k: None if v is None else round(v, 1) for k, v in pace.items()}
