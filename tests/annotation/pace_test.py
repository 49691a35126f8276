"""How fast raters are said to be."""

from rahf.annotation import assignment, pace, store
from rahf.annotation.records import Feedback, RatingTask

RULES = assignment.AssignmentRules()


def test_pace_is_the_median_and_the_rate_of_work(tmp_path):
    with store.open_store(tmp_path) as opened:
        tasks = [RatingTask(image=f"{i}.png") for i in range(200)]
        opened.add_images([(task, 9, 9) for task in tasks], raters=1)
        opened.add_rater("a")
        nothing = {"median_seconds": None, "per_hour": None}
        assert pace.rater_pace(opened, "a") == nothing
        for number, seconds in enumerate((900, 10, 20, 30)):
            taken = assignment.take(opened, "a", RULES, now=1000 * number)
            assert taken
            label = Feedback(nothing_wrong=True)
            for which, more in enumerate((0, 2)):  # an answer, and its correction
                event = store.Event(
                    id=str(which), kind="answer", label=label, seconds=seconds + more
                )
                now = 1000 * number + 5000 * which
                opened.save(taken, "a", [event], lease=100, now=now)
        found = pace.rater_pace(opened, "a")
        assert found == {"median_seconds": 27, "per_hour": 3600 * 4 / 968}
        assert pace.answers_of_last_hour(opened, now=3700) == 3, "the first is too old"
        for _ in range(100):
            taken = assignment.take(opened, "a", RULES)
            event = store.Event(id="1", kind="skip", reason="x", seconds=99)
            if _ % 2:
                event = store.Event(id="1", kind="answer", label=label, seconds=5)
            opened.save(taken or "", "a", [event], lease=100)
        assert pace.rater_pace(opened, "a")["median_seconds"] == 5
