"""Practice, hidden known answers, and who is paused by them."""

import dataclasses
import itertools

import pytest

from rahf.annotation import assignment, known_answers, store
from rahf.annotation.records import Feedback, RatingTask

NAMES = ("plausibility", "alignment", "aesthetics", "overall")
POINT = {"implausible_points": ((50.0, 50.0),)}
RULES = assignment.AssignmentRules(gold_every=10**9)


def _label(score=3, **fields):
    return Feedback(scores=dict.fromkeys(NAMES, score), **fields)


KNOWN = _label(**POINT)
RIGHT, WRONG = _label(4, implausible_points=((55.0, 50.0),)), _label(4)


@pytest.fixture
def opened(tmp_path):
    tasks = [RatingTask(image=f"g{i}.png", gold=KNOWN) for i in range(30)]
    tasks += [RatingTask(image=f"{i}.png") for i in range(300)]
    with store.open_store(tmp_path) as opened:
        opened.add_rater("a")
        opened.add_images([(task, 100, 100) for task in tasks], raters=3)
        yield opened


def _answer(opened, rules, label, kind="answer"):
    """Answers the next image; returns its assignment, whether it was known, its name."""
    taken = assignment.take(opened, "a", rules)
    event = store.Event(id="1", kind=kind, label=label, reason=None if label else "x")
    opened.save(taken, "a", [event], lease=100)
    known_answers.judge(opened, "a", rules)
    query = "SELECT i.image FROM images i JOIN assignments a ON a.image = i.id "
    [[name]] = opened.read(query + "WHERE a.id = ?", taken)
    return taken, name.startswith("g"), name


def _paused(opened):
    return opened.read("SELECT paused FROM raters")[0][0]


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ((RIGHT, RIGHT, WRONG), None),
        ((RIGHT, WRONG, WRONG), "1 of 3 practice images, below 60%"),
        ((RIGHT, None, WRONG), "1 of 3 practice images, below 60%"),  # a skip
    ],
)
def test_practice_comes_first_and_pauses_who_fails_it(opened, labels, reason):
    rules = dataclasses.replace(RULES, qualification=3)
    for label in labels:
        kind = "answer" if label else "skip"
        assert _paused(opened) is None, "only the whole practice decides"
        assert _answer(opened, rules, label, kind)[1]
    assert _paused(opened) == reason
    found = known_answers.practice(opened, "a", rules)
    right = labels.count(RIGHT)
    assert (found.done, found.passed, found.needed, found.least) == (3, right, 3, 2)
    assert not _answer(opened, rules, WRONG)[1], "the first real image"
    assert known_answers.forgive(opened, "a", rules)
    known_answers.judge(opened, "a", rules)
    assert _paused(opened) is None, "the manager's word counts"


def test_only_the_first_answer_to_a_practice_image_counts(opened):
    rules = dataclasses.replace(RULES, qualification=1)
    taken, *_ = _answer(opened, rules, WRONG)
    again = store.Event(id="2", kind="answer", label=RIGHT)
    opened.save(taken, "a", [again], lease=100)
    assert known_answers.practice(opened, "a", rules).passed == 0
    assert known_answers.practice_result(opened, taken, rules) == (False, KNOWN)


def test_no_more_practice_than_known_images_and_none_for_old_hands(opened):
    rules = dataclasses.replace(RULES, qualification=50)
    assert known_answers.practice(opened, "a", rules).needed == 30
    for _ in range(2):
        _answer(opened, RULES, WRONG)
    few = dataclasses.replace(RULES, qualification=2)
    assert known_answers.practice(opened, "a", few).needed == 0


def test_known_images_are_mixed_in_one_in_so_many_at_random(opened):
    rules = dataclasses.replace(RULES, gold_every=4, gold_least=1000)
    given = [_answer(opened, rules, RIGHT)[1:] for _ in range(100)]
    seen = [known for known, _ in given]
    names = [int(name[1:-4]) for known, name in given if known]
    assert names != sorted(names), "raters who talk would know them by their order"
    # 25 are expected; 30 are all there are; fewer than 8 come once in 10^5 times.
    assert 8 <= sum(seen) <= 30
    first = seen.index(True)
    gaps = {after - before for before, after in _pairs(seen)}
    assert len(gaps) > 2, "at regular places, raters would know them"
    [[practice]] = opened.read("SELECT SUM(qualification) FROM assignments")
    assert practice == 0 and first < 60


def _pairs(seen):
    places = [at for at, known in enumerate(seen) if known]
    return itertools.pairwise(places)


def test_who_misses_hidden_ones_is_paused_until_forgiven(opened):
    rules = dataclasses.replace(RULES, gold_every=1)
    for done in range(1, 6):
        assert _paused(opened) is None
        assert _answer(opened, rules, RIGHT if done < 3 else WRONG)[1]
    assert _paused(opened) == "2 of 5 known answers, below 60%"
    assert known_answers.hidden(opened, "a", rules) == [True] * 2 + [False] * 3
    assert known_answers.forgive(opened, "a", rules)
    for _ in range(4):
        assert _paused(opened) is None
        _answer(opened, rules, WRONG)
    assert _paused(opened) is None, "four are too few"
    _answer(opened, rules, WRONG)
    assert _paused(opened) == "0 of 5 known answers, below 60%"
    assert not known_answers.forgive(opened, "nobody", rules)


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
    plain = POINT | {"misaligned_words": (1,)}
    known = _label(3, **plain)
    assert known_answers.meets(_label(**plain | fields), known, 100, 0.1) is right
