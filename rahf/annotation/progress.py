"""How a round of annotation is going, for its manager."""

from typing import Any

from rahf.annotation import assignment
from rahf.annotation.store import AnswerStore, loads

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
        "SELECT r.name, r.paused, COALESCE(SUM(a.state = 'answered'), 0) AS answers, "
        "COALESCE(SUM(a.state = 'skipped'), 0) AS skips FROM raters r "
        "LEFT JOIN assignments a ON a.rater = r.name GROUP BY r.name ORDER BY r.name"
    )
    raters = []
    for row in rows:
        right, of = assignment.gold_results(store, row["name"], rules)
        raters.append(dict(row) | {"gold": {"right": right, "of": of}})
    return {
        **dict(images),
        "answers": sum(rater["answers"] for rater in raters),
        "skips": sum(rater["skips"] for rater in raters),
        "raters": raters,
        "disputed": _disputed(store),
    }


def _disputed(store: AnswerStore) -> list[dict[str, Any]]:
    rows = store.read(
        "SELECT i.id, i.image, i.prompt, e.label FROM images i "
        "JOIN assignments a ON a.image = i.id AND a.state = 'answered' "
        "JOIN events e ON e.number = (SELECT MAX(number) FROM events "
        "WHERE assignment = a.id AND kind = 'answer') WHERE i.gold IS NULL"
    )
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        entry = {"image_id": row["id"], "name": row["image"], "prompt": row["prompt"]}
        entry = found.setdefault(row["id"], entry | {"labels": []})
        entry["labels"].append(loads(row["label"]))
    listed = []
    for entry in found.values():
        labels = entry.pop("labels")
        if len(labels) > 1 and (spread := assignment.spread(labels)) > 0:
            listed.append(entry | {"answers": len(labels), "spread": spread})
    return sorted(listed, key=lambda entry: -entry["spread"])[:_LISTED]
