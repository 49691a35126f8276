"""Who labels which image next.

An image gets a stated number of raters, never the same one twice. Those with the fewest
answers come first. An assignment is a lease: if nothing is heard of it for a while, the
image goes to someone else. Images with known answers are mixed in, unmarked.
"""

import dataclasses
import math
import secrets
import sqlite3
import time
from collections.abc import Sequence

from rahf.annotation.records import Feedback
from rahf.annotation.store import AnswerStore, loads
from rahf.datasets.ratings.consolidation import POINTS


@dataclasses.dataclass(frozen=True, kw_only=True)
class AssignmentRules:
    """How images are given out.

    Attributes:
      lease: seconds without a sign of life after which an image goes to others.
      disputed: the difference between the highest and the lowest answer to a score
        from which an image gets more raters.
      more: how many more, once an image has its first answers; 0 for none.
      gold_every: one in so many images is one with a known answer.
      qualification: the number of known answers before the first real image.
      gold_line: the share of known answers below which a rater is paused.
      gold_least: the number of known answers before a rater can be paused.
      distance: how far a point may be from a known one, as a share of the height;
        twice the paper's radius of a point, so that the disks still touch.
    """

    lease: float = 1800
    disputed: int = 3
    more: int = 2
    gold_every: int = 10
    qualification: int = 0
    gold_line: float = 0.6
    gold_least: int = 5
    distance: float = 0.1


def take(
    store: AnswerStore,
    rater: str,
    rules: AssignmentRules,
    *,
    now: float | None = None,
) -> str | None:
    """Returns a rater's assignment: the open one, or a new one, None if none is left.

    Raises:
      DiskFullError: the disk is full.
    """
    now = time.time() if now is None else now
    with store.transaction() as db:
        _expire(db, now)
        if (mine := _resume(db, rater, now + rules.lease)) is not None:
            return mine
        [count] = db.execute(
            "SELECT COUNT(*) FROM assignments WHERE rater = ?", (rater,)
        ).fetchone()
        image, qualification = None, count < rules.qualification
        if qualification or secrets.randbelow(rules.gold_every) == 0:
            image = _gold(db, rater)
            qualification = qualification and image is not None
        image = image or _real(db, rater)
        return image and _assign(db, image, rater, count, qualification, now, rules)


def _expire(db: sqlite3.Connection, now: float) -> None:
    late = db.execute(
        "SELECT id, image FROM assignments WHERE state = 'open' AND until < ?", (now,)
    ).fetchall()
    for row in late:
        db.execute("UPDATE assignments SET state = 'expired' WHERE id = ?", row[:1])
        db.execute("UPDATE images SET load = load - 1 WHERE id = ?", row[1:])


def _resume(db: sqlite3.Connection, rater: str, until: float) -> str | None:
    """Renews the rater's open assignment, or an expired one that nobody took over."""
    row = db.execute(
        "SELECT a.id, a.image, a.state FROM assignments a JOIN images i "
        "ON i.id = a.image WHERE rater = ? AND (state = 'open' OR state = 'expired' "
        "AND (load < wanted OR gold IS NOT NULL)) ORDER BY state DESC, number DESC "
        "LIMIT 1",
        (rater,),
    ).fetchone()
    if row is None:
        return None
    db.execute(
        "UPDATE assignments SET state = 'open', until = ? WHERE id = ?",
        (until, row["id"]),
    )
    if row["state"] == "expired":
        db.execute("UPDATE images SET load = load + 1 WHERE id = ?", (row["image"],))
    return row["id"]


_UNSEEN = "NOT EXISTS (SELECT 1 FROM assignments WHERE image = i.id AND rater = ?)"


def _real(db: sqlite3.Connection, rater: str) -> str | None:
    row = db.execute(
        "SELECT i.id FROM images i INDEXED BY images_to_do WHERE load < wanted AND "
        f"gold IS NULL AND {_UNSEEN} ORDER BY load, position LIMIT 1",
        (rater,),
    ).fetchone()
    return row and row["id"]


def _gold(db: sqlite3.Connection, rater: str) -> str | None:
    row = db.execute(
        f"SELECT i.id FROM images i WHERE gold IS NOT NULL AND {_UNSEEN} "
        "ORDER BY RANDOM() LIMIT 1",
        (rater,),
    ).fetchone()
    return row and row["id"]


def _assign(db, image, rater, count, qualification, now, rules) -> str:
    id_ = secrets.token_urlsafe(16)
    db.execute(
        "INSERT INTO assignments (id, image, rater, state, until, number, "
        "qualification) VALUES (?, ?, ?, 'open', ?, ?, ?)",
        (id_, image, rater, now + rules.lease, count, qualification),
    )
    db.execute("UPDATE images SET load = load + 1 WHERE id = ?", (image,))
    return id_


def review(
    store: AnswerStore, assignment: str, rater: str, rules: AssignmentRules
) -> None:
    """Draws the consequences of an answer: more raters, or a pause for this one.

    It may be called again for the same answer, as after a crash, without doing more.
    """
    [row] = store.read(
        "SELECT i.id, i.gold, i.wanted, i.extended FROM assignments a "
        "JOIN images i ON i.id = a.image WHERE a.id = ?",
        assignment,
    )
    if row["gold"] is not None:
        right, of = gold_results(store, rater, rules)
        if of >= rules.gold_least and right < rules.gold_line * of:
            reason = f"{right} of {of} known answers, below {rules.gold_line:.0%}"
            with store.transaction() as db:
                db.execute(
                    "UPDATE raters SET paused = COALESCE(paused, ?) WHERE name = ?",
                    (reason, rater),
                )
        return
    labels = _labels(store, "i.id = ?", row["id"])
    if row["extended"] or len(labels) < row["wanted"]:
        return
    if rules.more and spread([label for _, label in labels]) >= rules.disputed:
        with store.transaction() as db:
            db.execute(
                "UPDATE images SET wanted = wanted + ?, extended = 1 WHERE id = ? "
                "AND extended = 0",
                (rules.more, row["id"]),
            )


def gold_results(
    store: AnswerStore, rater: str, rules: AssignmentRules
) -> tuple[int, int]:
    """Returns how many known answers a rater has met, and of how many."""
    found = _labels(store, "i.gold IS NOT NULL AND a.rater = ?", rater)
    right = sum(
        meets(label, known, row["height"], rules.distance)
        for row, label in found
        if (known := loads(row["gold"])) is not None
    )
    return right, len(found)


def _labels(
    store: AnswerStore, where: str, value: str
) -> list[tuple[sqlite3.Row, Feedback]]:
    rows = store.read(
        "SELECT i.gold, i.height, e.label FROM assignments a "
        "JOIN images i ON i.id = a.image JOIN events e ON e.number = "
        "(SELECT MAX(number) FROM events WHERE assignment = a.id AND kind = 'answer') "
        f"WHERE a.state = 'answered' AND {where}",
        value,
    )
    return [(row, label) for row in rows if (label := loads(row["label"]))]


def spread(labels: Sequence[Feedback]) -> int:
    """Returns the largest difference between two answers to the same score."""
    names = {name for label in labels for name in label.scores}
    answers = [[x.scores[n] for x in labels if n in x.scores] for n in names]
    return max((max(given) - min(given) for given in answers), default=0)


def meets(label: Feedback, known: Feedback, height: int, distance: float) -> bool:
    """Returns whether an answer is close enough to the known one.

    Scores may differ by one. Every known point needs one of the rater's within
    `distance * height` pixels, and the other way round. Words must be the same.
    """
    near = distance * height
    for name in POINTS:
        mine, theirs = getattr(label, name), getattr(known, name)
        for some, others in ((mine, theirs), (theirs, mine)):
            if any(all(math.dist(a, b) > near for b in others) for a in some):
                return False
    scores = known.scores.items()
    close = all(abs(label.scores.get(name, 9) - score) <= 1 for name, score in scores)
    return close and label.misaligned_words == known.misaligned_words
