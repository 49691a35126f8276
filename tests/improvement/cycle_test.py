"""The closed loop in small: what is made, that it goes on, and what is refused.

Training is replaced by noise, and no model has learned anything; tests/bin/improve_test.py
runs the command.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import shutil

import flax.linen as nn
import jax
import numpy as np
import pytest

from rahf import durable
from rahf.applications.selection import parse_rule
from rahf.checkpoints import workdir as workdirs
from rahf.checkpoints.checkpointer import Checkpointer
from rahf.checkpoints.restore import restore_for_inference
from rahf.generators.muse.generator import MuseGenerator
from rahf.generators.muse.sampling import SamplingOptions
from rahf.improvement import cycle, measuring, stages
from rahf.reports import improvement_page, yield_chart
from rahf.training.feedback import make_learner
from tests.generators.muse.learner_test import small
from tests.support import tiny


@pytest.fixture(scope="module", name="models")
def _models(tmp_path_factory):
    """A generator, and two models of feedback; none of them has learned anything."""
    folder = tmp_path_factory.mktemp("models")
    config = small()
    shapes = jax.eval_shape(
        lambda key: nn.unbox(make_learner(config).init(key)), jax.random.key(0)
    )
    write_params(folder / "muse", config, {1: tiny.random_params(shapes)})
    for seed, name in enumerate(("rewards", "judge")):
        tiny.write_workdir(folder / name, tiny.config(), seed=seed)
    return folder


def write_params(workdir, config, params):
    workdirs.write_config(workdir, config)
    with contextlib.closing(Checkpointer(workdir, config)) as saver:
        for step, tree in params.items():
            saver.save(step, {"params": tree}, {}, {})


def _load(workdir):
    return MuseGenerator.load(workdir, options=SamplingOptions(steps=2, guidance=1.0))


def _train(config, workdir):
    """Writes the checkpoints that training would, with noise for what is learned."""
    if pathlib.Path(workdir).exists():
        return
    assert (pathlib.Path(config.input.captions.train) / "metadata.jsonl").is_file()
    _, params, _ = restore_for_inference(config.init_from)
    rng = np.random.default_rng(len(config.input.captions.train))
    steps = range(
        config.checkpoint.every_steps,
        config.training_steps + 1,
        config.checkpoint.every_steps,
    )
    noisy = lambda x: x + 0.1 * rng.standard_normal(np.shape(x)).astype(np.float32)
    write_params(workdir, config, {s: jax.tree.map(noisy, params) for s in steps})


TOOLS = stages.Tools(load=_load, train=_train, draw=yield_chart.write_chart)


def _request(models, workdir, **fields):
    given = {
        "workdir": str(workdir),
        "config": small("folder", training_steps=2),
        "prompts": ["a red cube", "two blue cats", "a tree"],
        "held_out": ["a dog", "a green ring"],
        "samples": 3,
        "judged_samples": 2,
        "rule": parse_rule("plausibility", "auto:0.6", [], 1, 1.0),
        "rounds": 2,
        "mended": 1,
    }
    places = {"generator": "muse", "rewards": "rewards", "judge": "judge"}
    given |= {name: str(models / place) for name, place in places.items()}
    return cycle.ImproveRequest(**given | fields)


@pytest.fixture(scope="module", name="done")
def _done(models, tmp_path_factory):
    """A whole run, which the tests look at."""
    request = _request(models, tmp_path_factory.mktemp("improved"))
    return request, cycle.improve(request, TOOLS)


def _lines(*parts):
    text = pathlib.Path(*parts).read_text("utf-8")
    return [json.loads(line) for line in text.splitlines()]


def test_every_arm_is_judged_after_every_round(done):
    request, points = done
    assert [(each.arm, each.steps) for each in points] == [
        ("base", 0),
        *(("chosen", steps) for steps in (2, 4)),
        *(("random", steps) for steps in (2, 4)),
        *(("weighted", steps) for steps in (2, 4)),
        ("rounds", 4),
        ("mended", 0),
    ]
    for point in points[:-1]:
        rows = _lines(request.path(point.folder, "images", "metadata.jsonl"))
        assert [row["seed"] for row in rows] == [0, 1, 0, 1]
        assert [row["text"] for row in rows[::2]] == request.held_out
        judged = _lines(request.path(point.folder, "judged", "predictions.jsonl"))
        assert [row["id"] for row in judged] == [r["file_name"][:-4] for r in rows]
    for place, seed in (("round1", 1000), ("rounds/2", 2000)):
        rows = _lines(request.path(place, "images", "metadata.jsonl"))
        assert [row["seed"] for row in rows[:4]] == [*range(seed, seed + 3), seed]


def test_what_differs_between_the_arms(done):
    request, _ = done
    read = lambda arm: _lines(request.path(arm, "selected/images/metadata.jsonl"))
    chosen, random, weighted = map(read, ("chosen", "random", "weighted"))
    assert len(chosen) == 2  # auto:0.6 of three prompts
    assert [r["text"] for r in chosen] == [r["text"] for r in random]
    bare = [{n: row[n] for n in ("file_name", "text")} for row in weighted]
    assert bare == random
    assert all("loss_weights" in row for row in weighted)
    for name in (row["file_name"] for row in random):
        one, other = (
            request.path(arm, "selected", "images", name).read_bytes()
            for arm in ("random", "weighted")
        )
        assert one == other
    starts = {
        place: workdirs.read_config(request.path(place, "run")).init_from
        for place in ("chosen", "random", "weighted", "rounds/2")
    }
    second = starts.pop("rounds/2")
    assert set(starts.values()) == {request.generator}
    assert second == str(request.path("chosen/run/checkpoints/2"))


def test_the_folders_say_who_had_a_hand_in_them(done):
    request, _ = done
    for place, hand in (
        ("base", 0),
        ("random/2", 0),
        ("weighted/2", 1),
        ("rounds/4", 1),
    ):
        asked = json.loads(request.path(place, "images", "request.json").read_text())
        assert len(asked["made_by"].get("chosen_by", [])) == hand


def test_again_it_makes_nothing(done):
    request, points = done
    before = {path: path.stat().st_mtime_ns for path in _files(request)}
    assert cycle.improve(request, TOOLS) == points
    after = {path: path.stat().st_mtime_ns for path in _files(request)}
    assert [path for path in after if after[path] != before.get(path)] == []


def _files(request):
    files = (path for path in request.path().rglob("*") if path.is_file())
    return sorted(path for path in files if path.name != durable.LOCK_FILE)


def test_stopped_anywhere_it_goes_on(done, models, tmp_path):
    """Stopped after every second batch of images, and before each training."""
    request, _ = done
    stopped = _request(models, tmp_path / "W", arms=("chosen", "rounds"))
    left = 2

    class Stops:
        def __init__(self, generator):
            self._generator = generator

        def __getattr__(self, name):
            return getattr(self._generator, name)

        def generate(self, prompts, seeds):
            nonlocal left
            if not left:
                left = 2
                raise KeyboardInterrupt
            left -= 1
            return self._generator.generate(prompts, seeds)

    def train(config, workdir):
        if not pathlib.Path(f"{workdir}.tried").exists():
            os.makedirs(f"{workdir}.tried")
            raise KeyboardInterrupt
        _train(config, workdir)

    tools = stages.Tools(lambda w: Stops(_load(w)), train, yield_chart.write_chart)
    for _ in range(40):
        try:
            points = cycle.improve(stopped, tools)
            break
        except KeyboardInterrupt:
            continue
    for point in points:
        images = [
            sorted(r.path(point.folder, "images").glob("*.png"))
            for r in (request, stopped)
        ]
        assert [p.name for p in images[0]] == [p.name for p in images[1]]
    names = ["base/images/000001-1.png", "round1/images/000002-1001.png"]
    for name in names:
        assert request.path(name).read_bytes() == stopped.path(name).read_bytes()


def test_measured_side_by_side(done, tmp_path):
    request, points = done
    said = improvement_page.write(request, points)
    assert "plausibility, against the generator as it was" in said
    assert "weighted against random, 4 steps" in said
    results = json.loads(request.path("results.json").read_text("utf-8"))
    assert [row["arm"] for row in results["against_base"]] == [
        p.arm for p in points[1:]
    ]
    assert [(r["arm"], r["against"]) for r in results["direct"]] == [
        ("weighted", "random"),
        ("weighted", "random"),
        ("rounds", "chosen"),
    ]
    first = results["against_base"][0]
    assert first["scores"]["plausibility"]["pairs"] == 4
    assert results["against_base"][-1]["scores"]["plausibility"]["pairs"] == 1
    before = _lines(request.path("base/judged/predictions.jsonl"))
    mean = np.mean([row["scores"]["alignment"] for row in before])
    assert first["means"]["alignment"]["before"]["value"] == pytest.approx(
        mean, abs=1e-5
    )
    assert 0 <= first["means"][measuring.AREA]["after"]["value"] <= 1
    page = request.path("report.html").read_text("utf-8")
    for text in ("Side by side", "After each round", "Before and after", "a dog"):
        assert text in page
    assert "Chosen and refused" in page
    assert page.count("<svg") > 8


def test_the_judge_must_be_another_model(models, tmp_path):
    request = _request(models, tmp_path / "W", judge=str(models / "rewards"))
    with pytest.raises(
        ValueError, match="has the parameters of the model that rewards"
    ):
        cycle.improve(request, TOOLS)
    assert not (tmp_path / "W").exists()


def _copied(done, tmp_path):
    request, _ = done
    shutil.copytree(request.workdir, tmp_path / "W")
    return dataclasses.replace(request, workdir=str(tmp_path / "W"))


def test_where_nothing_passes_it_says_so_and_keeps_what_was_made(done, tmp_path):
    request = _copied(done, tmp_path)
    shutil.rmtree(request.path("chosen"))
    rule = parse_rule("plausibility", "1.5", [], 1, 1.0)
    request = dataclasses.replace(request, rule=rule)
    with pytest.raises(
        ValueError, match=r"of at least 1.5; the best found is 0\.\d+; "
    ):
        cycle.improve(request, TOOLS)
    assert request.path("round1", "predictions", "predictions.jsonl").is_file()
    assert not request.path("chosen", "selected").exists()
    assert not list(request.path("chosen").glob(".*partial/images/*"))


def test_what_other_models_made_is_refused(done, models, tmp_path):
    request = _copied(done, tmp_path)
    tiny.write_workdir(tmp_path / "other", tiny.config(), seed=5)
    other = dataclasses.replace(request, judge=str(tmp_path / "other"))
    with pytest.raises(
        ValueError, match=r"predictions.jsonl, line 1: expected predicti"
    ):
        cycle.improve(other, TOOLS)
    other = dataclasses.replace(request, held_out=["a cat"])
    with pytest.raises(
        ValueError, match=r"held_out.jsonl has other prompts than those"
    ):
        cycle.improve(other, TOOLS)
    other = dataclasses.replace(request, samples=2)
    with pytest.raises(ValueError, match="holds results of other"):
        cycle.improve(other, TOOLS)


def test_images_that_vanished_are_named(done, tmp_path):
    request = _copied(done, tmp_path)
    (request.path("round1", "images") / "000000-1000.png").unlink()
    shutil.rmtree(request.path("chosen", "selected"))
    with pytest.raises(ValueError, match="000000-1000.png"):
        cycle.improve(request, TOOLS)


def test_requests_that_cannot_be(models, tmp_path):
    for fields, message in (
        ({"arms": ("chosen", "best")}, "arms: best; expected some of chosen, random"),
        ({"arms": ()}, "arms: none"),
        ({"held_out": ["a tree"]}, "1 prompts are both learned from and held out"),
        (
            {"prompts": ["x", "x"]},
            "prompts: expected different ones, at least one; got 2",
        ),
        ({"samples": 1001}, "expected 1 to 1000 images of a prompt"),
    ):
        with pytest.raises(ValueError, match=message):
            _request(models, tmp_path / "W", **fields)
    request = _request(models, tmp_path / "W", arms=("rounds",))
    with pytest.raises(ValueError, match="the first round of 'rounds' is that of"):
        cycle.improve(request, TOOLS)
    assert not (tmp_path / "W").exists()
