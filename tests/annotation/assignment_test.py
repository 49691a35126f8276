"""Who gets which image: overlap, leases, disputes, known answers."""

import dataclasses

import pytest

from rahf.annotation import assignment, store
from rahf.annotation.records import Feedback, RatingTask

NAMES = ("plausibility", "alignment", "aesthetics", "overall")
RULES = assignment.AssignmentRules(lease=100)


def _label(score=3, **fields):
    return Feedback(scores=dict.fromkeys(NAMES, score), **fields)


@pytest.fixture
def opened(tmp_path):
    with store.open_store(tmp_path) as opened:
        for name in "abcdefg":
            opened.add_rater(name)
        yield opened


def _add(opened, count, raters=3, **fields):
    tasks = [
        RatingTask(image=f"{'g' if fields else ''}{i}.png", **fields)
        for i in range(count)
    ]
    opened.add_images([(task, 100, 100) for task in tasks], raters=raters)


def _answer(opened, rater, label=None, rules=RULES, now=0.0):
    taken = assignment.take(opened, rater, rules, now=now)
    if taken is None:
        return None
    event = store.Event(id="1", kind="answer", label=label or _label())
    opened.save(taken, rater, [event], lease=100, now=now)
    assignment.review(opened, taken, rater, rules)
    [row] = opened.read(
        "SELECT i.image FROM images i JOIN assignments a ON a.image = i.id "
        "WHERE a.id = ?",
        taken,
    )
    return row["image"]


def test_each_image_gets_three_raters_fewest_first_never_one_twice(opened):
    _add(opened, 2)
    assert [_answer(opened, "a") for _ in range(3)] == ["0.png", "1.png", None]
    assert _answer(opened, "b") == "0.png"
    assert _answer(opened, "c") == "1.png", "it has one answer, 0.png has two"
    for rater in "bcdefg":
        while _answer(opened, rater):
            pass
    pairs = [(answer.image, answer.rater) for answer in opened.answers()]
    assert len(pairs) == len(set(pairs)) == 6


def test_an_open_image_stays_the_raters_until_its_lease_expires(opened):
    _add(opened, 1, raters=1)
    taken = assignment.take(opened, "a", RULES, now=0)
    assert assignment.take(opened, "a", RULES, now=90) == taken
    assert assignment.take(opened, "b", RULES, now=180) is None
    other = assignment.take(opened, "b", RULES, now=191)
    assert taken and other and other != taken
    event = store.Event(id="1", kind="answer", label=_label())
    with pytest.raises(store.LeaseExpiredError):
        opened.save(taken, "a", [event], lease=100, now=192)
    assert assignment.take(opened, "c", RULES, now=400), "b's lease expired as well"


def test_a_late_answer_counts_if_nobody_else_came(opened):
    _add(opened, 1, raters=1)
    taken = assignment.take(opened, "a", RULES, now=0)
    assert taken
    assert assignment.take(opened, "a", RULES, now=500) == taken, "their own again"
    assert assignment.take(opened, "b", RULES, now=601), "but not for ever"
    assert assignment.take(opened, "b", RULES, now=601)
    assert assignment.take(opened, "a", RULES, now=602) is None
    assert assignment.take(opened, "a", RULES, now=702) == taken
    event = store.Event(id="1", kind="answer", label=_label())
    assert opened.save(taken, "a", [event], lease=100, now=803) == "answered"
    assert assignment.take(opened, "b", RULES, now=804) is None


def test_a_dispute_brings_two_more_raters_once(opened):
    _add(opened, 1, raters=2)
    assert _answer(opened, "a", _label(1)) and _answer(opened, "b", _label(4))
    assert _answer(opened, "c", _label(5)) and _answer(opened, "d")
    assert _answer(opened, "e") is None
    _add(opened, 2, raters=2)
    assert _answer(opened, "a", _label(2)) and _answer(opened, "b", _label(4))
    assert _answer(opened, "c") is None, "a difference of two is no dispute"


def test_known_answers_come_first_and_pause_who_misses_them(opened):
    known = _label(3, implausible_points=((50.0, 50.0),))
    _add(opened, 6, gold=known)
    _add(opened, 3)
    rules = dataclasses.replace(RULES, qualification=5, gold_every=10**9)
    near = _label(4, implausible_points=((55.0, 50.0),))
    for rater, label in (("a", near), ("b", _label(4))):
        seen = [_answer(opened, rater, label, rules) for _ in range(6)]
        assert all(name and name.startswith("g") for name in seen[:5])
        assert seen[5] in ("0.png", "1.png")
    paused = {row["name"]: row["paused"] for row in opened.read("SELECT * FROM raters")}
    assert paused["a"] is None
    assert paused["b"] == "0 of 5 known answers, below 60%"
    assert assignment.gold_results(opened, "a", rules) == (5, 5)


@pytest.mark.parametrize(
    ("fields", "right"),
    [
        ({}, True),
        ({"score": 5}, False),
        ({"implausible_points": ()}, False),
        ({"implausible_points": ((59.0, 50.0),)}, True),
        ({"implausible_points": ((61.0, 50.0),)}, False),
        ({"implausible_points": ((50.0, 50.0), (90.0, 90.0))}, False),
        ({"misaligned_words": ()}, False),
    ],
)
def test_tolerance(fields, right):
    plain = {"implausible_points": ((50.0, 50.0),), "misaligned_words": (1,)}
    known = _label(3, **plain)
    assert assignment.meets(_label(**plain | fields), known, 100, 0.1) is right
