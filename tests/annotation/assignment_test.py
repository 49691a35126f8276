"""Who gets which image: overlap, leases, disputes, known answers."""

import pytest

from rahf.annotation import assignment, known_answers, store
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
    known_answers.judge(opened, rater, rules)
    assignment.review(opened, taken, rules)
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


def test_a_page_may_hold_two_images_ahead_and_never_one_twice(opened):
    _add(opened, 9, raters=1)
    held = []
    for _ in range(3):
        held.append(assignment.take(opened, "a", RULES, holding=held, now=0))
    assert len(set(held)) == 3 and all(held)
    assert assignment.take(opened, "a", RULES, holding=held, now=0) is None
    assert assignment.holds_enough(opened, "a", RULES)
    assert assignment.take(opened, "a", RULES, now=0) == held[0], "a page loaded anew"
    event = store.Event(id="1", kind="answer", label=_label())
    opened.save(held[0], "a", [event], lease=100, now=0)
    more = assignment.take(opened, "a", RULES, holding=held[1:], now=0)
    assert more and more not in held
    [[load]] = opened.read("SELECT SUM(load) FROM images")
    assert load == 4


def test_what_is_held_ahead_is_leased_and_renewed(opened):
    _add(opened, 3, raters=1)
    held = []
    for _ in range(3):
        held.append(assignment.take(opened, "a", RULES, holding=held, now=0))
    assert assignment.hold(opened, "a", held[:2], RULES, now=90) == []
    other = assignment.take(opened, "b", RULES, now=150)
    assert other, "the third was not renewed"
    assert assignment.take(opened, "c", RULES, now=150) is None, "the others were"
    assert assignment.hold(opened, "a", [*held, "x"], RULES, now=160) == [held[2], "x"]
    assert assignment.hold(opened, "b", held, RULES, now=160) == held, "not b's"
    # Expired, but nobody came: it is the rater's again.
    assignment.take(opened, "c", RULES, now=10**4)
    assert assignment.hold(opened, "a", held[1:2], RULES, now=10**4) == []
    [[load]] = opened.read("SELECT SUM(load) FROM images")
    [[open_]] = opened.read("SELECT COUNT(*) FROM assignments WHERE state = 'open'")
    assert load == open_ == 2


def test_nothing_is_held_ahead_of_practice(opened):
    _add(opened, 3, gold=_label())
    _add(opened, 3)
    rules = assignment.AssignmentRules(qualification=2)
    for _ in range(2):
        taken = assignment.take(opened, "a", rules)
        assert taken and not assignment.take(opened, "a", rules, holding=[taken])
        event = store.Event(id="1", kind="answer", label=_label())
        opened.save(taken, "a", [event], lease=100)
    taken = assignment.take(opened, "a", rules)
    assert taken and assignment.take(opened, "a", rules, holding=[taken])


def test_what_was_held_ahead_and_not_begun_can_be_given_back(opened):
    _add(opened, 3, raters=1)
    held = []
    for _ in range(3):
        held.append(assignment.take(opened, "a", RULES, holding=held, now=0))
    draft = store.Event(id="1", kind="draft", label=Feedback())
    opened.save(held[0], "a", [draft], lease=100, now=0)
    assignment.release(opened, "b", held)
    assert assignment.take(opened, "b", RULES, now=1) is None, "they are not b's"
    assignment.release(opened, "a", [*held, "x"])
    assignment.release(opened, "a", held)
    assert assignment.take(opened, "a", RULES, now=1) == held[0], "it was begun"
    assert assignment.take(opened, "b", RULES, now=1), "another may have the second"
    more = assignment.take(opened, "a", RULES, holding=held[:1], now=1)
    assert more == held[2], "their own again, not the second"
    [[load]] = opened.read("SELECT SUM(load) FROM images")
    assert load == 3


def test_a_lease_of_a_wrong_clock_ends_when_the_clock_is_right(opened):
    _add(opened, 1, raters=1)
    taken = assignment.take(opened, "a", RULES, now=2e9)
    assert taken
    assert assignment.take(opened, "b", RULES, now=1e9) not in (None, taken)
    [[state]] = opened.read("SELECT state FROM assignments WHERE id = ?", taken)
    assert state == "expired"


def test_another_number_of_raters_is_for_the_images_there_are(opened):
    assert assignment.set_raters(opened, None) == (3, 0), "in a new workdir"
    _add(opened, 1, raters=2)
    assert _answer(opened, "a", _label(1)) and _answer(opened, "b", _label(4))
    _add(opened, 2, raters=2)
    query = "SELECT wanted FROM images ORDER BY position"
    assert [row["wanted"] for row in opened.read(query)] == [4, 2], "a dispute"
    assert assignment.set_raters(opened, None) == (2, 0), "as before"
    assert assignment.set_raters(opened, 3) == (3, 2)
    assert [row["wanted"] for row in opened.read(query)] == [5, 3]
    assert assignment.set_raters(opened, 3) == (3, 0)
    assert assignment.set_raters(opened, 1) == (1, 2)
    assert [row["wanted"] for row in opened.read(query)] == [3, 1]
    [[ready]] = opened.read("SELECT SUM(load < wanted) FROM images")
    assert ready == 2, "0.png has two answers of three, 1.png none"
