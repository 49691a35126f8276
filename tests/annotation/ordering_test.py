"""Raters get images in the order asked for."""

import json

import pytest
from PIL import Image

import rahf
from rahf.annotation import (
    assignment,
    client,
    load,
    ordering,
    store,
    tokens,
    uncertainty,
)
from rahf.annotation.records import RatingTask
from rahf.datasets.scenes import Scenes
from tests.support import tiny

NAMES = [f"{index}.png" for index in range(20)]
RULES = assignment.AssignmentRules()


@pytest.fixture
def opened(tmp_path):
    with store.open_store(tmp_path / "w") as opened:
        tasks = [(RatingTask(image=name, prompt="a cat"), 8, 8) for name in NAMES]
        opened.add_images(tasks, raters=1)
        opened.add_rater("r1")
        yield opened


def _next(opened) -> str:
    id_ = assignment.take(opened, "r1", RULES)
    event = store.Event(id="1" * 8, kind="skip", reason="no")
    opened.save(id_, "r1", [event], lease=9)
    [[name]] = opened.read(
        "SELECT i.image FROM assignments a JOIN images i ON i.id = a.image "
        "WHERE a.id = ?",
        id_,
    )
    return name


def _all(opened) -> list[str]:
    return [_next(opened) for _ in NAMES]


def test_random_is_by_seed_and_leaves_those_given_out(opened, tmp_path):
    first = _next(opened)
    assert first == "0.png"
    query = "SELECT position FROM images WHERE image = '0.png'"
    assert ordering.arrange(opened, "random", folder=tmp_path, seed=1) == 0
    assert opened.read(query)[0][0] == 0
    opened.arrange(NAMES)  # also of those that are named
    assert opened.read(query)[0][0] == 0
    ordering.arrange(opened, "random", folder=tmp_path, seed=1)
    rest = [_next(opened) for _ in NAMES[1:]]
    assert sorted([first, *rest]) == sorted(NAMES) and rest != NAMES[1:]


def test_a_new_image_moves_no_other_at_random(tmp_path):
    found = []
    for count in (20, 15):
        with store.open_store(tmp_path / str(count)) as opened:
            tasks = [(RatingTask(image=name), 8, 8) for name in NAMES[:count]]
            opened.add_images(tasks, raters=1)
            opened.add_rater("r1")
            ordering.arrange(opened, "random", folder=tmp_path, seed=3)
            found.append([_next(opened) for _ in NAMES[:count]])
    assert [name for name in found[0] if name in NAMES[:15]] == found[1]


def test_given_is_as_listed(opened, tmp_path):
    ordering.arrange(opened, "given", folder=tmp_path)
    assert _all(opened) == NAMES


def test_an_order_and_its_checkpoint_go_together(opened, tmp_path):
    with pytest.raises(ValueError, match="checkpoint"):
        ordering.arrange(opened, "uncertain", folder=tmp_path)
    with pytest.raises(ValueError, match="checkpoint"):
        ordering.arrange(opened, "random", folder=tmp_path, checkpoint="w")


def test_a_model_of_scores_alone_cannot_say(opened, tmp_path):
    config = tiny.config()
    config.task.targets = ("overall",)
    checkpoint = str(tiny.write_workdir(tmp_path / "model", config))
    with pytest.raises(ValueError, match="predicts overall.* words or heatmaps"):
        ordering.arrange(opened, "uncertain", folder=tmp_path, checkpoint=checkpoint)
    assert _all(opened) == NAMES


def test_an_order_stays_until_another_is_asked_for(opened, tmp_path):
    ordering.arrange(opened, "random", folder=tmp_path, seed=1)
    query = "SELECT image FROM images ORDER BY position"
    order = [name for [name] in opened.read(query)]
    tasks = [(RatingTask(image=name), 8, 8) for name in ("new.png",)]
    opened.add_images(tasks, raters=1)
    ordering.arrange(opened, "given", folder=tmp_path)
    assert [name for [name] in opened.read(query)] == [*order, "new.png"] != NAMES


def test_what_a_real_model_is_least_sure_of_is_served_first(tmp_path):
    scenes, rows = Scenes("dev", 64, num_examples=6), [{"image": "broken.png"}]
    for record in scenes:
        rows.append({"image": f"{record['uid']}.png", "prompt": record["prompt"]})
        Image.fromarray(record["image"]).save(tmp_path / rows[-1]["image"])
    data = (tmp_path / rows[-1]["image"]).read_bytes()
    (tmp_path / "broken.png").write_bytes(data[:300])
    listed, work = tmp_path / "images.jsonl", tmp_path / "w"
    listed.write_text("".join(json.dumps(row) + "\n" for row in rows))
    checkpoint = str(tiny.write_workdir(tmp_path / "model", tiny.config()))
    token = tokens.TokenFile(work).make("r1", "rater")
    flags = ("--order=uncertain", f"--checkpoint={checkpoint}")
    with load.serving(listed, tmp_path, work, *flags) as (url, _):
        rater, found = client.AnnotationClient(url, token), []
        while (task := rater.next()[0]) is not None:
            found.append(task["prompt"])
            rater.send(task["id"], [client.new_event("skip", reason="no")])
        rater.close()
    pictures = [record["image"] for record in scenes]
    prompts = [record["prompt"] for record in scenes]
    parts = map(uncertainty.entropies, rahf.load(checkpoint).predict(pictures, prompts))
    unsure = uncertainty.combine(list(parts))
    turns = uncertainty.order(unsure, prompts)
    assert found == [*(prompts[index] for index in turns), ""]  # the broken one last
    assert (work / uncertainty.FILE).is_file()
