"""How a round of annotation is going, for its manager."""

from typing import Any

from rahf.annotation import assignment, known_answers, pace
from rahf.annotation.store import AnswerStore
from rahf.datasets.ratings.consolidation import SCORE_FIELDS

# The number of disputed images to list.
_LISTED = 50


def measure(store: AnswerStore, rules: assignment.AssignmentRules) -> dict[str, Any]:
    """Returns progress, raters and disputed images, in JSON-able form.

    `disputed` lists images with two answers or more, those whose answers to a score
    differ most first, and at most 50 of them.
    """
    [images] = store.read(
        "SELECT COUNT(*) AS images, COALESCE(SUM(load >= wanted AND NOT EXISTS (SELECT "
        "1 FROM assignments WHERE image = i.id AND state = 'open')), 0) AS complete "
        "FROM images i WHERE gold IS NULL"
    )
    rows = store.read(
        "SELECT r.name, r.paused AS pause_reason, "
        "COALESCE(SUM(a.state = 'answered'), 0) AS answers, "
        "COALESCE(SUM(a.state = 'skipped'), 0) AS skips FROM raters r "
        "LEFT JOIN assignments a ON a.rater = r.name GROUP BY r.name ORDER BY r.name"
    )
    raters = [dict(row) | _rater(store, row, rules) for row in rows]
    return {
        **dict(images),
        "answers": sum(rater["answers"] for rater in raters),
        "skips": sum(rater["skips"] for rater in raters),
        "per_hour": pace.answers_of_last_hour(store),
        "raters": raters,
        "disputed": _disputed(store),
    }


def _rater(store: AnswerStore, row, rules: assignment.AssignmentRules) -> dict:
    known = known_answers.hidden(store, row["name"], rules)
    tried = known_answers.practice(store, row["name"], rules)
    paused = row["pause_reason"] is not None
    return {
        **pace.rounded(pace.rater_pace(store, row["name"])),
        "paused": paused,
        "qualified": not paused and tried.done >= tried.needed,
        "practice": {"right": tried.passed, "of": tried.done, "needed": tried.needed},
        "gold": {"right": sum(known), "of": len(known)},
    }


def _disputed(store: AnswerStore) -> list[dict[str, Any]]:
    # In SQL, which holds up no other thread: there may be 100,000 labels.
    ranges = ", ".join(
        f"MAX(s.{name}) - MIN(s.{name}) AS {name}_range" for name in SCORE_FIELDS
    )
    scores = ", ".join(
        f"json_extract(e.label, '$.scores.{name}') AS {name}" for name in SCORE_FIELDS
    )
    widest = ", ".join(f"COALESCE({name}_range, 0)" for name in SCORE_FIELDS)
    rows = store.read(
        f"SELECT i.id AS image_id, i.image AS name, i.prompt, answers, MAX({widest}) AS "
        f"spread FROM (SELECT s.image, COUNT(*) AS answers, {ranges} FROM (SELECT "
        f"a.image, {scores} FROM assignments a JOIN events e ON e.number = (SELECT "
        "MAX(number) FROM events WHERE assignment = a.id AND kind = 'answer') WHERE "
        "a.state = 'answered') s GROUP BY s.image HAVING answers > 1) d "
        "JOIN images i ON i.id = d.image WHERE i.gold IS NULL AND spread > 0 "
        "ORDER BY spread DESC, i.position LIMIT ?",
        _LISTED,
    )
    return [dict(row) for row in rows]
