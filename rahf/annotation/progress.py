"""How a round of annotation is going, for its manager."""

from typing import Any

from rahf.annotation import assignment, known_answers, pace
from rahf.annotation.records import describe_words
from rahf.annotation.store import AnswerStore, loads
from rahf.datasets.ratings.consolidation import POINT_RADIUS, SCORE_FIELDS

# The number of disputed images to list.
_LISTED = 50
# The longer side of an image beside its answers, in pixels.
_SIDE = 1024


def measure(store: AnswerStore, rules: assignment.AssignmentRules) -> dict[str, Any]:
    """Returns progress, raters and disputed images, in JSON-able form.

    `disputed` lists images with two answers or more, those whose answers to a score
    differ most first, and at most 50 of them; beside its answers, how many raters are
    `at_work` on an image and how many more are `to_come`.
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


def answers_to(store: AnswerStore, image_id: str) -> dict[str, Any] | None:
    """Returns an image and what each rater said about it, in JSON-able form.

    None if there is no such image. Answers are in the order of assignment; those of
    practice are left out.
    """
    images = store.read(
        "SELECT image, prompt, width, height FROM images WHERE id = ?", image_id
    )
    if not images:
        return None
    [image] = images
    rows = store.read(
        "SELECT a.rater, e.label, e.reason, a.guess_shown FROM assignments a JOIN "
        "events e ON e.number = (SELECT MAX(number) FROM events WHERE assignment = "
        "a.id AND kind != 'draft') WHERE a.image = ? AND NOT a.qualification AND "
        "a.state IN ('answered', 'skipped') ORDER BY a.number, a.rater",
        image_id,
    )
    return {
        "image": {
            "name": image["image"],
            "url": f"/images/{image_id}?side={_SIDE}",
            "prompt": image["prompt"],
            "words": describe_words(image["prompt"]),
            "width": image["width"],
            "height": image["height"],
            "radius": POINT_RADIUS,
        },
        "answers": [
            {
                "rater": row["rater"],
                "label": label.to_json() if (label := loads(row["label"])) else None,
                "skipped": row["reason"],
                "guess_shown": bool(row["guess_shown"]),
            }
            for row in rows
        ],
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
        "SELECT i.id AS image_id, i.image AS name, i.prompt, answers, i.load - answers "
        f"AS at_work, MAX(i.wanted - i.load, 0) AS to_come, MAX({widest}) AS spread FROM (SELECT s.image, COUNT(*) AS answers, {ranges} FROM (SELECT "
        f"a.image, {scores} FROM assignments a JOIN events e ON e.number = (SELECT "
        "MAX(number) FROM events WHERE assignment = a.id AND kind = 'answer') WHERE "
        "a.state = 'answered') s GROUP BY s.image HAVING answers > 1) d "
        "JOIN images i ON i.id = d.image WHERE i.gold IS NULL AND spread > 0 "
        "ORDER BY spread DESC, i.position LIMIT ?",
        _LISTED,
    )
    return [dict(row) for row in rows]
