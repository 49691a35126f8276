"""The agreement of raters while they work."""

import pathlib

import pytest

from rahf.annotation import agreement, answer_lines, assignment, rater_agreement, store
from rahf.annotation.records import Feedback, RatingTask
from rahf.datasets.ratings import rating_files

RULES = assignment.AssignmentRules(gold_every=1)


@pytest.fixture
def opened(tmp_path):
    """Twelve images that a, b and c answered, c against the others; and a known one."""
    tasks = [RatingTask(image=f"{i}.png", prompt="a red cat") for i in range(12)]
    known = Feedback(scores={"overall": 3}, nothing_wrong=True)
    tasks.append(RatingTask(image="gold.png", prompt="a red cat", gold=known))
    with store.open_store(tmp_path) as opened:
        opened.add_images([(task, 40, 20) for task in tasks], raters=3)
        for rater in "abc":
            opened.add_rater(rater)
            while taken := assignment.take(opened, rater, RULES):
                query = "SELECT i.position FROM images i JOIN assignments a "
                [[at]] = opened.read(query + "ON a.image = i.id WHERE a.id = ?", taken)
                score = 1 + ((4 - at % 5) // 2 if rater == "c" else at % 5)
                x = 5.0 + at if rater == "c" else 35.0 - at
                label = Feedback(
                    scores={"overall": score},
                    implausible_points=((x, 10.0),),
                    misaligned_words=(at % 3,) if rater != "c" else (),
                )
                event = store.Event(id="1", kind="answer", label=label, seconds=at)
                opened.save(taken, rater, [event], lease=9)
        yield opened


def test_it_equals_the_report_of_the_exported_file(opened, tmp_path):
    found = rater_agreement.measure(opened)
    lines = answer_lines.export_lines(a for a in opened.answers() if a.image[0] != "g")
    path = tmp_path / "ratings.jsonl"
    path.write_text("".join(lines))
    rated = rating_files.read(path)
    aspects = {each.image: 2.0 for each in rated}
    report = agreement.compute_agreement(rated, aspects=aspects, progress=False)
    assert found == report.raters
    assert found["c"]["plcc"] < 0 < found["a"]["plcc"]
    assert found["a"]["cc"] > found["c"]["cc"]
    assert found["a"]["n_ratings"] == 12, "the known one does not count"


def test_it_is_measured_by_another_process(opened):
    watch = rater_agreement.AgreementWatch(opened)
    first = watch.latest()
    assert first == {"raters": {}, "events": None, "error": None, "running": True}
    watch.wait()
    assert watch.latest()["raters"] == rater_agreement.measure(opened)
    assert watch.latest()["events"] == 39


def test_it_is_measured_for_new_answers_and_not_too_often(opened):
    runs, now = [], [0.0]

    def run(path: pathlib.Path) -> dict:
        runs.append(path)
        now[0] += 3
        if len(runs) == 2:
            raise RuntimeError("out of memory")
        return {"a": {"plcc": float(len(runs))}}

    watch = rater_agreement.AgreementWatch(opened, run=run, clock=lambda: now[0])

    def look():
        watch.latest()
        watch.wait()
        return watch.latest()

    assert look()["raters"] == {"a": {"plcc": 1.0}}
    now[0] += 1000
    assert look()["events"] == 39 and len(runs) == 1, "nothing new"
    [[id_]] = opened.read("SELECT id FROM assignments WHERE rater = 'a' LIMIT 1")
    for number in (40, 41):
        event = store.Event(id=str(number), kind="draft", label=Feedback())
        opened.save(id_, "a", [event], lease=9)
        found = look()
    assert found["error"] == "out of memory" and found["raters"]["a"]["plcc"] == 1
    assert len(runs) == 2, "it took 3 seconds: not again for 30"
    now[0] += 31
    assert look()["raters"]["a"]["plcc"] == 3 and look()["events"] == 41


def test_a_round_without_two_answers_to_an_image_has_none(tmp_path):
    with store.open_store(tmp_path) as opened:
        assert rater_agreement.measure(opened) == {}
