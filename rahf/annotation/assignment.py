"""Who labels which image next.

An image gets a stated number of raters, never the same one twice. Those with the fewest
answers come first. An assignment is a lease: if nothing is heard of it for a while, the
image goes to someone else. Images with known answers are mixed in, unmarked.
"""

import dataclasses
import secrets
import sqlite3
import time
from collections.abc import Collection, Sequence

from rahf.annotation.records import Feedback
from rahf.annotation.store import AnswerStore, loads

#: The answers to an image where nobody says how many; the paper's number.
RATERS = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class AssignmentRules:
    """How images are given out.

    Attributes:
      lease: seconds without a sign of life after which an image goes to others.
      ahead: how many more a page may hold beside the one that is worked on, so that
        work goes on while the connection is away.
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
    ahead: int = 2
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
    holding: Collection[str] = (),
    now: float | None = None,
) -> str | None:
    """Returns a rater's assignment: the open one, or a new one, None if there is none.

    Args:
      store: the answers.
      rater: who asks.
      rules: how images are given out.
      holding: assignments that the rater's page has already and wants others than.
      now: the time, in seconds since the epoch.

    Raises:
      DiskFullError: the disk is full.
    """
    now = time.time() if now is None else now
    with store.transaction() as db:
        _expire(db, now, rules.lease)
        if (mine := _resume(db, rater, holding, now + rules.lease)) is not None:
            return mine
        if holds_enough(store, rater, rules):
            return None
        [count] = db.execute(
            "SELECT COUNT(*) FROM assignments WHERE rater = ?", (rater,)
        ).fetchone()
        image, qualification = None, count < rules.qualification
        if qualification or secrets.randbelow(rules.gold_every) == 0:
            image = _gold(db, rater)
            qualification = qualification and image is not None
        image = image or _real(db, rater)
        return image and _assign(db, image, rater, count, qualification, now, rules)


def holds_enough(store: AnswerStore, rater: str, rules: AssignmentRules) -> bool:
    """Whether a rater must finish an image before the next: they have `rules.ahead`
    beside it, or it is a practice image, whose result may end their work."""
    [[count, practice]] = store.read(
        "SELECT COUNT(*), COALESCE(SUM(qualification), 0) FROM assignments "
        "WHERE rater = ? AND state IN ('open', 'expired') AND state = 'open'",
        rater,
    )
    return count > rules.ahead or practice > 0


def hold(
    store: AnswerStore,
    rater: str,
    ids: Collection[str],
    rules: AssignmentRules,
    *,
    now: float | None = None,
) -> list[str]:
    """Renews the leases of assignments that a rater's page holds.

    Those that have expired are the rater's again if nobody took over.

    Returns:
      Those that are not the rater's to answer any more: others have, or they have.
    """
    now = time.time() if now is None else now
    gone = []
    with store.transaction() as db:
        for id_ in ids:
            query = f"{_UNFINISHED} AND a.id = ?"
            row = db.execute(query, (rater, id_)).fetchone()
            if row is None:
                gone.append(id_)
            else:
                _renew(db, row, now + rules.lease)
    return gone


def _expire(db: sqlite3.Connection, now: float, lease: float) -> None:
    """Takes back what is late, or was given when the clock was wrong."""
    late = db.execute(
        "SELECT id, image FROM assignments WHERE state = 'open' AND "
        "(until < ? OR until > ?)",
        (now, now + 2 * lease),
    ).fetchall()
    for row in late:
        _give_back(db, row)


def _give_back(db: sqlite3.Connection, row: sqlite3.Row) -> None:
    db.execute("UPDATE assignments SET state = 'expired' WHERE id = ?", (row["id"],))
    db.execute("UPDATE images SET load = load - 1 WHERE id = ?", (row["image"],))


def release(store: AnswerStore, rater: str, ids: Collection[str]) -> None:
    """Gives back assignments that were held ahead and not begun, for others to take."""
    with store.transaction() as db:
        for id_ in ids:
            row = db.execute(
                "SELECT id, image FROM assignments a WHERE id = ? AND rater = ? AND "
                "state = 'open' AND NOT EXISTS (SELECT 1 FROM events WHERE "
                "assignment = a.id)",
                (id_, rater),
            ).fetchone()
            if row is not None:
                _give_back(db, row)


# A rater's open assignments, and expired ones that nobody took over. IN (...) names the
# index on these few to SQLite, which else reads all of the rater's.
_UNFINISHED = (
    "SELECT a.id, a.image, a.state FROM assignments a JOIN images i ON i.id = a.image "
    "WHERE rater = ? AND state IN ('open', 'expired') AND (state = 'open' OR "
    "load < wanted OR gold IS NOT NULL)"
)


def _resume(db: sqlite3.Connection, rater: str, holding, until: float) -> str | None:
    marks = ", ".join("?" * len(holding))
    row = db.execute(
        f"{_UNFINISHED} AND a.id NOT IN ({marks}) ORDER BY state DESC, number LIMIT 1",
        (rater, *holding),
    ).fetchone()
    if row is None:
        return None
    _renew(db, row, until)
    return row["id"]


def _renew(db: sqlite3.Connection, row: sqlite3.Row, until: float) -> None:
    db.execute(
        "UPDATE assignments SET state = 'open', until = ? WHERE id = ?",
        (until, row["id"]),
    )
    if row["state"] == "expired":
        db.execute("UPDATE images SET load = load + 1 WHERE id = ?", (row["image"],))


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


def set_raters(store: AnswerStore, raters: int | None) -> tuple[int, int]:
    """Says how many answers each image of a workdir gets, beside what disputes and the
    manager add.

    Args:
      store: the answers.
      raters: how many; None for as many as before, `RATERS` in a new workdir.

    Returns:
      The number, and that of the images for which it was another.
    """
    last = store.read("SELECT asked FROM images ORDER BY position DESC LIMIT 1")
    number: int = raters or (last[0]["asked"] if last else RATERS)
    with store.transaction() as db:
        changed = db.execute(
            "UPDATE images SET wanted = wanted + ?1 - asked, asked = ?1 "
            "WHERE asked != ?1",
            (number,),
        )
        return number, changed.rowcount


def review(store: AnswerStore, assignment: str, rules: AssignmentRules) -> None:
    """Asks for more raters of an image whose answers differ widely.

    It may be called again for the same answer, as after a crash, without doing more.
    """
    rows = store.read(
        "SELECT i.id, i.wanted, e.label FROM images i JOIN assignments a ON a.image = "
        "i.id AND a.state = 'answered' JOIN events e ON e.number = (SELECT MAX(number) "
        "FROM events WHERE assignment = a.id AND kind = 'answer') WHERE i.id = (SELECT "
        "image FROM assignments WHERE id = ?) AND i.gold IS NULL AND NOT i.extended",
        assignment,
    )
    if not rules.more or not rows or len(rows) < rows[0]["wanted"]:
        return
    labels = [label for row in rows if (label := loads(row["label"]))]
    if spread(labels) >= rules.disputed:
        with store.transaction() as db:
            db.execute(
                "UPDATE images SET wanted = wanted + ?, extended = 1 WHERE id = ? "
                "AND extended = 0",
                (rules.more, rows[0]["id"]),
            )


def spread(labels: Sequence[Feedback]) -> int:
    """Returns the largest difference between two answers to the same score."""
    names = {name for label in labels for name in label.scores}
    answers = [[x.scores[n] for x in labels if n in x.scores] for n in names]
    return max((max(given) - min(given) for given in answers), default=0)
