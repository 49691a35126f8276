"""launch/pairs.sh: its commands, one arm of it in small, and its table."""

import importlib
import json
import os
import pathlib
import shlex
import subprocess

import numpy as np
import pytest

from rahf import targets
from rahf.bin import eval_preferences, eval_scores, training_run
from rahf.datasets.preference_pairs import Preferences
from rahf.evaluation.metrics import table
from tests.support import embedded, quick_steps, tiny_pairs

ROOT = pathlib.Path(__file__).parents[2]
ARMS = ("rich", "pairs", "control")


def _commands(**settings):
    done = subprocess.run(
        ["bash", "launch/pairs.sh"],
        cwd=ROOT,
        env=os.environ | {"DRY_RUN": "1"} | settings,
        capture_output=True,
        text=True,
        check=True,
    )
    found = []
    for line in done.stdout.splitlines():
        _, _, module, *arguments = shlex.split(line)
        flags = dict(each.removeprefix("--").split("=", 1) for each in arguments)
        found.append((module.removeprefix("rahf.bin."), flags))
    return found


@pytest.fixture
def program(tmp_path, monkeypatch):
    return embedded.programs_of("launch/pairs.sh", tmp_path, monkeypatch)


def test_nine_trainings_each_measured_four_times():
    commands = _commands(WORKDIR="w", RICH="300", PAIRS="4000", STEPS="50")
    trained = [flags for name, flags in commands if name == "train"]
    assert [flags["workdir"] for flags in trained] == [
        f"w/{arm}{seed}" for seed in (1, 2, 3) for arm in ARMS
    ]
    for flags in trained:
        file, _, arm = flags["config"].partition(":")
        name = file.removesuffix(".py").replace("/", ".")
        config = importlib.import_module(name).get_config(arm)
        for key, value in flags.items():
            if key.startswith("config."):
                *place, last = key.split(".")[1:]
                for part in place:
                    config = config[part]
                assert isinstance(config[last], int) and value.isdigit()
                config = importlib.import_module(name).get_config(arm)
        number = "config.input.pairs_of_scenes.train_examples"
        assert flags.get(number) == (None if arm == "rich" else "4000")
    measured = [flags["checkpoint"] for name, flags in commands if name != "train"]
    assert len(measured) == 36 and len(set(measured)) == 9
    assert all(f["step"] == "best" for name, f in commands if name != "train")


def test_what_is_measured_already_is_not_measured_again(tmp_path):
    folder = tmp_path / "pairs1.test"
    folder.mkdir()
    for name in ("scores", "heatmaps", "keywords"):
        (folder / f"{name}.json").touch()
    commands = _commands(WORKDIR=str(tmp_path), SEEDS="1")
    names = [
        n for n, flags in commands if flags.get("checkpoint", "").endswith("pairs1")
    ]
    assert names == ["eval_preferences"]


def test_the_arms_differ_as_said():
    rich, pairs, control = (
        importlib.import_module("configs.scenes_pairs").get_config(arm) for arm in ARMS
    )
    assert pairs.input.pairs_of_scenes.train_choices == "raters"
    control.input.pairs_of_scenes.train_choices = "raters"
    assert control.to_json() == pairs.to_json()
    assert 2 * rich.input.batch_size == pairs.input.batch_size
    assert pairs.eval.task == rich.task.name
    for key in ("model", "optimizer", "schedule", "training_steps"):
        assert rich[key] == pairs[key]


def test_an_arm_in_small_is_trained_and_measured(
    tmp_path, monkeypatch, program, capsys
):
    """Pairs as Parquet, two steps, feedback and choices measured, resumed in between."""
    quick_steps.use(monkeypatch, "traced")
    pairs = tmp_path / "test.parquet"
    program(0, pairs, "test", 3)
    assert [each.where for each in Preferences(pairs)] and len(Preferences(pairs)) == 3
    workdir = tmp_path / "pairs1"
    for steps in (1, 2):
        config = tiny_pairs.get_config("pairs")
        config.input.pairs_of_scenes.train_examples = 4
        config.training_steps = config.eval.every_steps = steps
        config.checkpoint.every_steps = 1
        training_run.run(config, workdir)
    out = tmp_path / "pairs1.test"
    common = [f"--checkpoint={workdir}", "--step=best", f"--output={out}"]
    eval_scores.main([*common, "--split=test", "--examples=4"])
    eval_preferences.main([*common, f"--pairs={pairs}"])
    scores = json.loads((out / "scores.json").read_text("utf-8"))["metrics"]
    assert scores["overall"]["n"] == 4
    choices = json.loads((out / "preferences.json").read_text("utf-8"))["metrics"]
    assert choices["overall"]["n_compared"] == 3
    assert "overall" in capsys.readouterr().out


def test_differences_are_of_a_seed_and_the_interval_is_student_s(
    tmp_path, program, capsys
):
    def write(run: str, value: float) -> None:
        folder = tmp_path / f"{run}.test"
        folder.mkdir()
        for kind, file in (
            (targets.Kind.SCORE, "scores"),
            (targets.Kind.HEATMAP, "heatmaps"),
            (targets.Kind.WORDS, "keywords"),
        ):
            values = dict.fromkeys(table.NAMES[kind], value)
            metrics = {t.name: values for t in targets.rows() if t.kind is kind}
            (folder / f"{file}.json").write_text(json.dumps({"metrics": metrics}))
        values = {"accuracy": value, "accuracy_without_ties": None}
        facts = {"metrics": {"overall": values}}
        (folder / "preferences.json").write_text(json.dumps(facts))

    for seed, value in (("1", 0.1), ("2", 0.5), ("3", 0.3)):
        write(f"rich{seed}", value)
        write(f"pairs{seed}", value + 0.1 * int(seed))
        write(f"control{seed}", value + 0.05)
    program(1, tmp_path, "test", "1 2 3")
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[:3] == list(ARMS)
    [row] = [line for line in lines if line.startswith("plausibility plcc ^")]
    # 4.303, the quantile for two degrees of freedom, times .1 by the root of 3.
    assert row.split()[3:] == [
        *("0.300", "0.500", "0.350"),
        *("+0.200", "±", "0.248", "+0.150", "±", "0.248"),
        *("+0.100", "+0.200", "+0.300"),
    ]
    assert any(line.startswith("overall, choices accuracy ^") for line in lines)
    undefined = next(x for x in lines if "accuracy_without_ties" in x)
    assert np.isnan(float(undefined.split()[4]))
