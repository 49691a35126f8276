"""Cross-validation: k evaluations as one, and the binary around them."""

import importlib
import json
import subprocess
import types

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from rahf import targets
from rahf.bin import cross_validate
from rahf.evaluation.cross_validation import pool
from rahf.evaluation.evaluate import Results
from rahf.evaluation.metrics.table import METRICS
from tests.support import tiny


def _results(rng, fold, count, name="overall"):
    measured = METRICS[targets.Kind.SCORE].empty(targets.get(name))
    measured.update(rng.random(count), rng.random(count))
    rows = [
        {"uid": f"{fold}-{i}", "prompt": "", "target": name} | row
        for i, row in enumerate(measured.rows)
    ]
    return Results({name: measured.compute()}, rows)


def test_the_mean_the_deviation_and_all_together():
    rng = np.random.default_rng(0)
    folds = [_results(rng, fold, 10 + fold) for fold in range(3)]
    found = pool(folds)
    of_folds = [fold.metrics["overall"]["plcc"] for fold in folds]
    assert found.metrics["overall, mean of folds"]["plcc"] == pytest.approx(
        np.mean(of_folds)
    )
    assert found.metrics["overall, deviation"]["plcc"] == pytest.approx(
        np.std(of_folds, ddof=1)
    )
    rows = [row for fold in folds for row in fold.rows]
    both = [[row[side] for row in rows] for side in ("prediction", "truth")]
    pooled = found.metrics["overall, pooled"]
    assert pooled["srcc"] == pytest.approx(stats.spearmanr(*both).statistic)
    assert {values["n"] for values in found.metrics.values()} == {33}
    assert [row["fold"] for row in found.rows] == [0] * 10 + [1] * 11 + [2] * 12


def test_folds_that_are_not_of_one_cut():
    rng = np.random.default_rng(0)
    same = [_results(rng, 0, 5), _results(rng, 0, 5)]
    with pytest.raises(ValueError, match="the same image"):
        pool(same)
    with pytest.raises(ValueError, match="at least two folds"):
        pool(same[:1])


def test_a_score_that_nobody_has_labelled_is_in_the_table():
    rng = np.random.default_rng(0)
    folds = [_results(rng, fold, 10) for fold in range(2)]
    for fold in folds:
        fold.metrics["aesthetics"] = {"n": 0}
    assert pool(folds).metrics["aesthetics, pooled"] == {"n": 0}


@pytest.fixture
def table(tmp_path):
    for i in range(8):
        Image.new("RGB", (20, 20), (30 * i,) * 3).save(tmp_path / f"{i}.png")
    lines = [f"{i}.png,a cat {i // 2},{1 + i % 5}\n" for i in range(8)]
    path = tmp_path / "ratings.csv"
    path.write_text("image,prompt,mos\n" + "".join(lines))
    return path


def _noise_run(folder, flags):
    """Leaves in a folder what rahf.bin.train would, its parameters noise."""
    name, _, arg = flags["config"].partition(":")
    module = importlib.import_module(name.removesuffix(".py").replace("/", "."))
    config = module.get_config(arg)
    small = tiny.config()
    config.input.update(image_size=32, batch_size=8)
    config.model.vit.update(small.model.vit)
    config.model.t5.update(small.model.t5)
    rated = config.input.rated_images
    rated.path = flags["config.input.rated_images.path"]
    rated.folds = int(flags["config.input.rated_images.folds"])
    rated.fold = int(flags["config.input.rated_images.fold"])
    tiny.write_workdir(folder, config, 2)


def test_the_binary_trains_each_fold_and_joins_them(
    table, tmp_path, monkeypatch, capsys
):
    ran = []

    def run(command, check):
        assert not check and command[1:3] == ["-m", "rahf.bin.train"]
        flags = dict(flag.removeprefix("--").split("=", 1) for flag in command[3:])
        ran.append(flags)
        _noise_run(flags["workdir"], flags)
        return types.SimpleNamespace(returncode=0)

    monkeypatch.setattr(subprocess, "run", run)
    work = tmp_path / "runs"
    cross_validate.main(
        [f"--workdir={work}", "--folds=2"]
        + ["--config=configs/rated_images.py:scratch,mos:1-5->overall"]
        + [f"--config.input.rated_images.path={table}"]
    )
    assert [flags["workdir"] for flags in ran] == [f"{work}/fold_0", f"{work}/fold_1"]
    printed = capsys.readouterr().out
    assert "overall, mean of folds" in printed and "overall, pooled" in printed
    found = json.loads((work / "scores.json").read_text())
    assert (found["folds"], found["steps"]) == (2, [2, 2])
    assert found["metrics"]["overall, pooled"]["n"] == 8
    lines = (work / "scores.examples.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert sorted(row["uid"] for row in rows) == [f"{i}.png" for i in range(8)]
    sides = {row["prompt"]: row["fold"] for row in rows}
    assert all(sides[row["prompt"]] == row["fold"] for row in rows)

    monkeypatch.setattr(
        subprocess, "run", lambda *_, **__: types.SimpleNamespace(returncode=3)
    )
    with pytest.raises(SystemExit) as stop:
        cross_validate.main([f"--workdir={work}", "--config=x"])
    assert stop.value.code == 3
