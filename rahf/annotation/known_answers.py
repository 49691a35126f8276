"""How raters do on images whose answers are known.

Some come before the first real image, as practice: the rater sees what was expected, so
that only the first answer counts. Others are mixed in, unmarked.
"""

import dataclasses
import math

from rahf.annotation.assignment import AssignmentRules
from rahf.annotation.records import Feedback
from rahf.annotation.store import AnswerStore, loads
from rahf.datasets.ratings.consolidation import POINTS


@dataclasses.dataclass(frozen=True)
class Practice:
    """How far a rater is with the practice images.

    Attributes:
      done: answered or skipped.
      passed: those whose first answer met the known one.
      needed: how many there are for this rater.
      least: how many of them must be passed.
      forgiven: whether a manager let the rater go on all the same.
    """

    done: int
    passed: int
    needed: int
    least: int
    forgiven: bool = False

    @property
    def failed(self) -> bool:
        """Whether it is over, not passed and not forgiven."""
        over = self.done >= self.needed and self.passed < self.least
        return over and not self.forgiven


def practice(store: AnswerStore, rater: str, rules: AssignmentRules) -> Practice:
    """Returns how far a rater is with the practice images."""
    done = passed = 0
    for right in _practice_results(store, rater, rules):
        done, passed = done + 1, passed + right
    [[practised, taken]] = store.read(
        "SELECT COALESCE(SUM(qualification), 0), COUNT(*) FROM assignments "
        "WHERE rater = ?",
        rater,
    )
    needed = practised
    if (more := rules.qualification - taken) > 0:
        [[known]] = store.read("SELECT COUNT(*) FROM images WHERE gold IS NOT NULL")
        needed = min(practised + more, known)
    least = math.ceil(rules.gold_line * needed)
    return Practice(done, passed, needed, least, _forgiven(store, rater) is not None)


def hidden(store: AnswerStore, rater: str, rules: AssignmentRules) -> list[bool]:
    """Returns whether a rater's answers to unmarked images met the known ones.

    They are in the order of assignment.
    """
    rows = store.read(
        "SELECT i.gold, i.height, (SELECT label FROM events WHERE assignment = a.id "
        "AND kind = 'answer' ORDER BY number DESC LIMIT 1) AS label FROM "
        "assignments a JOIN images i ON i.id = a.image WHERE a.rater = ? AND "
        "a.state = 'answered' AND a.qualification = 0 AND i.gold IS NOT NULL ORDER BY a.number",
        rater,
    )
    return [_is_right(row, rules) for row in rows]


def judge(store: AnswerStore, rater: str, rules: AssignmentRules) -> None:
    """Pauses a rater who failed the practice, or falls below the line later."""
    tried = practice(store, rater, rules)
    counted = hidden(store, rater, rules)[_forgiven(store, rater) or 0 :]
    right, of = sum(counted), len(counted)
    if tried.failed:
        what, right, of = "practice images", tried.passed, tried.needed
    elif of >= rules.gold_least and right < rules.gold_line * of:
        what = "known answers"
    else:
        return
    reason = f"{right} of {of} {what}, below {rules.gold_line:.0%}"
    with store.transaction() as db:
        query = "UPDATE raters SET paused = COALESCE(paused, ?) WHERE name = ?"
        db.execute(query, (reason, rater))


def forgive(store: AnswerStore, rater: str, rules: AssignmentRules) -> bool:
    """Lets a paused rater go on; known answers so far count no more.

    Returns:
      Whether there is such a rater.
    """
    known = len(hidden(store, rater, rules))
    with store.transaction() as db:
        query = "UPDATE raters SET paused = NULL, forgiven = ? WHERE name = ?"
        return db.execute(query, (known, rater)).rowcount > 0


def practice_result(
    store: AnswerStore, assignment: str, rules: AssignmentRules
) -> tuple[bool, Feedback] | None:
    """Returns whether a practice image was passed, and its known answer.

    None if the assignment is no practice, or not answered or skipped yet.
    """
    for row in store.read(f"{_PRACTICE} AND a.id = ?", assignment):
        known = loads(row["gold"])
        assert known is not None
        return _is_right(row, rules), known
    return None


_PRACTICE = (
    "SELECT i.gold, i.height, (SELECT label FROM events WHERE assignment = a.id AND "
    "kind = 'answer' ORDER BY number LIMIT 1) AS label FROM assignments a JOIN images "
    "i ON i.id = a.image WHERE a.qualification AND a.state IN ('answered', 'skipped') "
    "AND i.gold IS NOT NULL"
)


def _practice_results(store, rater: str, rules: AssignmentRules) -> list[bool]:
    rows = store.read(f"{_PRACTICE} AND a.rater = ?", rater)
    return [_is_right(row, rules) for row in rows]


def _forgiven(store: AnswerStore, rater: str) -> int | None:
    """The number of hidden known answers when a manager let a paused rater go on."""
    rows = store.read("SELECT forgiven FROM raters WHERE name = ?", rater)
    return rows[0]["forgiven"] if rows else None


def _is_right(row, rules: AssignmentRules) -> bool:
    label, known = loads(row["label"]), loads(row["gold"])
    if label is None or known is None:  # skipped
        return False
    return meets(label, known, row["height"], rules.distance)


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
